"""Which machines a pod can run on: by labels, taints and room, and which NodeClaim is coming for it.

Everything is judged as Karpenter judges it, as far as the views tell; what they do not tell counts as possible.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from gpu_launcher.domain.policy import Dialect
from gpu_launcher.domain.resources import Resources
from gpu_launcher.domain.start import StartSnapshot
from gpu_launcher.domain.views import Expression, NodeClaimView, NodePoolView, NodeView, PodView, VolumeView
from gpu_launcher.planning.dialects import ARCH, CAPACITY_TYPE, HOSTNAME, OS, misspelt

ZONE = "topology.kubernetes.io/zone"

# Label domains whose values come with the machine, so that a NodePool need not name them.
_MACHINE_DOMAINS = (
    "kubernetes.io/",
    "beta.kubernetes.io/",
    "node.kubernetes.io/",
    "topology.kubernetes.io/",
    "failure-domain.beta.kubernetes.io/",
    "karpenter.sh/",
    "karpenter.k8s.aws/",
    "topology.k8s.aws/",
    "eks.amazonaws.com/",
    "karpenter.azure.com/",
    "kubernetes.azure.com/",
    "karpenter.k8s.gcp/",
    "cloud.google.com/",
    "oci.oraclecloud.com/",
)
_TAINTS_OF_A_START = frozenset(
    {
        "karpenter.sh/unregistered",
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
        "node.kubernetes.io/network-unavailable",
        "node.cloudprovider.kubernetes.io/uninitialized",
    }
)
_GPU_COUNT_LABELS = ("instance-gpu-count", "gke-accelerator-count", "sku-gpu-count", "nvidia.com/gpu.count")

Requirements = Iterable[Expression]


def compatible(pod: PodView, offered: Requirements | Mapping[str, str], volumes: Iterable[VolumeView] = ()) -> bool:
    """Return whether a machine of these requirements, or with these labels, can be one that the pod asks for.

    Requirements leave a machine open, labels are all that a node has. Volumes that are bound to zones ask for those.
    """
    extra = zone_wishes(volumes)
    if isinstance(offered, Mapping):
        labels = offered
        return any(all(_holds(labels, wish) for wish in (*wishes, *extra)) for wishes in _wishes(pod))
    known = _by_key(offered)
    return any(_compatible((*wishes, *extra), known) for wishes in _wishes(pod))


def zone_wishes(volumes: Iterable[VolumeView]) -> tuple[Expression, ...]:
    """Return what bound volumes ask of a machine's zone."""
    return tuple(Expression(ZONE, "In", volume.zones) for volume in volumes if volume.zones)


def serves(pod: PodView, pool: NodePoolView, volumes: Iterable[VolumeView] = ()) -> bool:
    """Return whether the NodePool can make machines for the pod, by labels and taints."""
    named = {expression.key for expression in pool.requirements}
    labels = tuple(Expression(key, "In", (value,)) for key, value in pool.labels.items() if key not in named)
    return _tolerated(pod, pool.taint_keys) and compatible(pod, (*pool.requirements, *labels), volumes)


def could_serve(pod: PodView, node: NodeView, volumes: Iterable[VolumeView] = ()) -> bool:
    """Return whether the node is of the right kind for the pod, ready or not, with or without room now.

    Taints that go away when a node has started do not count, nor do GPUs that are not advertised yet.
    """
    if node.deleting or node.disrupted or node.unschedulable:
        return False
    if not _tolerated(pod, node.taint_keys - _TAINTS_OF_A_START):
        return False
    return compatible(pod, node.labels, volumes) and _within(pod.requests, node.allocatable, node.gpus_advertised)


def has_room(pod: PodView, node: NodeView, pods: Iterable[PodView], volumes: Iterable[VolumeView] = ()) -> bool:
    """Return whether the scheduler should be able to put the pod on the node now, as far as *pods* tell."""
    if not (node.ready and node.initialized and could_serve(pod, node, volumes)):
        return False
    if not _tolerated(pod, node.taint_keys) or (pod.requests.gpus and not node.gpus_advertised):
        return False
    taken = sum((other.requests for other in pods if other.node == node.name and not other.ended), Resources())
    return _within(pod.requests, node.allocatable - taken, True)


def claims_of(pod: PodView, snapshot: StartSnapshot) -> tuple[NodeClaimView, ...]:
    """Return the NodeClaim that is coming for the pod, as a tuple of at most one; empty if none is known.

    The one that Karpenter named in an event, if it is still coming; else pending pods are counted off, oldest first,
    against the claims that can hold them, since Karpenter makes as many claims as it needs.
    """
    coming = coming_for(pod, snapshot)
    named = [claim for claim in coming if claim.name in _nominated(snapshot)]
    if named:
        return (named[-1],)
    place = _place_in_line(pod, snapshot)
    for claim in coming:
        held = max(1, _copies(pod.requests, claim.requests))
        if place < held:
            return (claim,)
        place -= held
    return ()


def coming_for(pod: PodView, snapshot: StartSnapshot) -> tuple[NodeClaimView, ...]:
    """Return all NodeClaims that could still become a machine for the pod, oldest first, whoever asked for them."""
    found = [
        claim
        for claim in snapshot.claims or ()
        if not claim.deleting
        and not claim.reached("Initialized")
        and _within(pod.requests, claim.requests, True)
        and compatible(pod, claim.requirements, snapshot.volumes or ())
    ]
    return tuple(sorted(found, key=lambda claim: (claim.created_at or 0.0, claim.name)))


def pod_is_next(pod: PodView, snapshot: StartSnapshot, machines: int) -> bool:
    """Return whether so many machines with room are enough for the pod and for those that wait longer for the same."""
    return _place_in_line(pod, snapshot) < machines


def least_gpus(pod: PodView) -> int:
    """Return how many GPUs a machine for the pod has at least: those it gets, or those that its labels ask for."""
    counts = []
    for wishes in _wishes(pod):
        named = [wish.values for wish in wishes if wish.key.endswith(_GPU_COUNT_LABELS) and wish.operator == "In"]
        counts.append(min((int(value) for values in named for value in values if _is_number(value)), default=0))
    return max(pod.requests.gpus, min(counts, default=0))


def ways_to_buy(pod: PodView, pools: Iterable[NodePoolView]) -> frozenset[str]:
    """Return the capacity types (spot, on-demand, reserved) that the pod and one of its NodePools both allow."""
    found = set()
    for pool in pools:
        for way in ("spot", "on-demand", "reserved"):
            wanted = Expression(CAPACITY_TYPE, "In", (way,))
            if compatible(pod, (wanted,)) and _compatible((wanted,), _by_key(pool.requirements)):
                found.add(way)
    return frozenset(found)


def _wishes(pod: PodView) -> Iterator[tuple[Expression, ...]]:
    """What the pod asks of a node: any one of these."""
    exact = tuple(Expression(key, "In", (value,)) for key, value in pod.node_selector.items())
    # An empty term matches nothing; a pod without terms asks for nothing more.
    for term in pod.node_affinity or ((),):
        yield (*exact, *term)


def _by_key(offered: Requirements) -> dict[str, list[Expression]]:
    known: dict[str, list[Expression]] = {}
    for expression in offered:
        known.setdefault(expression.key, []).append(expression)
    return known


def _compatible(wishes: Iterable[Expression], known: Mapping[str, list[Expression]]) -> bool:
    for wish in wishes:
        if wish.key not in known:
            if wish.operator in ("NotIn", "DoesNotExist"):
                continue
            if not _of_the_machine(wish.key):
                return False
        elif not _intersect(wish, known[wish.key]):
            return False
    return True


def _of_the_machine(key: str) -> bool:
    if any(misspelt(key, dialect) for dialect in (Dialect.AWS, Dialect.EKS_AUTO)):
        return False
    return key in (ARCH, OS, HOSTNAME) or any(
        key.startswith(domain) or f".{domain}" in f".{key}" for domain in _MACHINE_DOMAINS
    )


def _intersect(wish: Expression, offered: list[Expression]) -> bool:
    """Whether one value can satisfy both; open ranges on both sides are taken to overlap."""
    lists = [one.values for one in (wish, *offered) if one.operator == "In"]
    if lists:
        return any(all(_allows(one, value) for one in (wish, *offered)) for value in lists[0])
    if any(one.operator == "DoesNotExist" for one in offered):
        return wish.operator in ("DoesNotExist", "NotIn")
    if wish.operator == "DoesNotExist":
        # A label that a NodePool only narrows is one that its machines carry.
        return all(one.operator in ("NotIn", "DoesNotExist") for one in offered)
    return True


def _holds(labels: Mapping[str, str], wish: Expression) -> bool:
    value = labels.get(wish.key)
    if value is None:
        return wish.operator in ("NotIn", "DoesNotExist")
    return wish.operator != "DoesNotExist" and _allows(wish, value)


def _allows(one: Expression, value: str) -> bool:
    match one.operator:
        case "In":
            return value in one.values
        case "NotIn":
            return value not in one.values
        case "Gt" | "Lt" | "Gte" | "Lte":
            return _compares(one, value)
        case "DoesNotExist":
            return False
        case _:
            return True


def _compares(one: Expression, value: str) -> bool:
    bound = one.values[0] if one.values else ""
    if not (_is_number(value) and _is_number(bound)):
        return False
    mine, other = int(value), int(bound)
    return {"Gt": mine > other, "Lt": mine < other, "Gte": mine >= other, "Lte": mine <= other}[one.operator]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


def _tolerated(pod: PodView, taints: Iterable[str]) -> bool:
    # A toleration without a key tolerates everything.
    return "" in pod.toleration_keys or all(key in pod.toleration_keys for key in taints)


def _within(asked: Resources, given: Resources, with_gpus: bool) -> bool:
    pairs = zip(asked, given, strict=True)
    *plain, gpus = (mine <= 0 or mine <= theirs for mine, theirs in pairs)
    return all(plain) and (gpus or not with_gpus)


def _copies(asked: Resources, given: Resources) -> int:
    return asked.copies_in(given) if any(amount > 0 for amount in asked) else 1


def _nominated(snapshot: StartSnapshot) -> frozenset[str]:
    """Names of the NodeClaims that Karpenter's events say the pod should run on."""
    told = (event.message for event in snapshot.events if event.reason == "Nominated")
    return frozenset(
        word.removeprefix("nodeclaim/")
        for message in told
        for word in message.replace(",", " ").split()
        if word.startswith("nodeclaim/")
    )


def _place_in_line(pod: PodView, snapshot: StartSnapshot) -> int:
    """How many older pods wait for the same kind of machine."""
    mine = (pod.created_at or 0.0, pod.uid)
    return sum(
        1
        for other in snapshot.node_pods or ()
        if not other.node
        and not other.ended
        and not other.deleting
        and (other.node_selector, other.node_affinity) == (pod.node_selector, pod.node_affinity)
        and (other.created_at or 0.0, other.uid) < mine
    )
