"""Which machines a pod can run on: by labels, taints and room, and which NodeClaim is coming for it.

Everything is judged as Karpenter judges it, as far as the views tell; what they do not tell counts as possible.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import accumulate

from gpu_launcher.domain.resources import Resources
from gpu_launcher.domain.start import StartSnapshot
from gpu_launcher.domain.views import Expression, NodeClaimView, NodePoolView, NodeView, PodView, VolumeView
from gpu_launcher.explain.shape import Same, Shape, Term, shape_of
from gpu_launcher.planning.dialects import CAPACITY_TYPE
from gpu_launcher.planning.requirements import Requirements, number

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
_WAYS_TO_BUY: Mapping[str, Term] = {
    way: (Expression(CAPACITY_TYPE, "In", (way,)),) for way in ("spot", "on-demand", "reserved")
}

Offered = Iterable[Expression] | Mapping[str, str]
Claims = tuple[NodeClaimView, ...]
Nodes = tuple[NodeView, ...]
Pods = tuple[PodView, ...]


def compatible(pod: PodView, offered: Offered, volumes: Iterable[VolumeView] = ()) -> bool:
    """Return whether a machine of these requirements, or with these labels, can be one that the pod asks for.

    Requirements leave a machine open, labels are all that a node has. Volumes that are bound to zones ask for those.
    """
    return _compatible(shape_of(pod, volumes), Same(offered))


def serves(pod: PodView, pool: NodePoolView, volumes: Iterable[VolumeView] = ()) -> bool:
    """Return whether the NodePool can make machines for the pod, by labels and taints."""
    return _serves(shape_of(pod, volumes), Same(pool))


def could_serve(pod: PodView, node: NodeView, volumes: Iterable[VolumeView] = ()) -> bool:
    """Return whether the node is of the right kind for the pod, ready or not, with or without room now.

    Taints that go away when a node has started do not count, nor do GPUs that are not advertised yet.
    """
    return _could_serve(shape_of(pod, volumes), Same(node))


def with_room(pod: PodView, snapshot: StartSnapshot) -> Nodes:
    """Return the nodes on which the scheduler should be able to put the pod now, as far as the known pods tell."""
    shape = shape_of(pod, snapshot.volumes or ())
    return _with_room(shape, Same(snapshot.nodes or ()), Same(snapshot.node_pods or ()))


def claims_of(pod: PodView, snapshot: StartSnapshot) -> Claims:
    """Return the NodeClaim that is coming for the pod, as a tuple of at most one; empty if none is known.

    The one that Karpenter named in an event, if it is still coming; else pending pods are counted off, oldest first,
    against the claims that can hold them, since Karpenter makes as many claims as it needs.
    """
    coming = coming_for(pod, snapshot)
    names = _nominated(snapshot) if coming else frozenset()
    named = [claim for claim in coming if claim.name in names]
    if named or not coming:
        return tuple(named[-1:])
    seats = _seats(shape_of(pod, snapshot.volumes or ()), Same(coming))
    return coming[bisect_right(seats, _place_in_line(pod, snapshot)) :][:1]


def coming_for(pod: PodView, snapshot: StartSnapshot) -> Claims:
    """Return all NodeClaims that could still become a machine for the pod, oldest first, whoever asked for them."""
    return _coming(shape_of(pod, snapshot.volumes or ()), Same(snapshot.claims)) if snapshot.claims else ()


def claim_on(node: NodeView, snapshot: StartSnapshot) -> NodeClaimView | None:
    """Return the NodeClaim that became the node; None if there is none, or none is known."""
    return _by_node(Same(snapshot.claims)).get(node.name) if snapshot.claims else None


def pod_is_next(pod: PodView, snapshot: StartSnapshot, machines: int) -> bool:
    """Return whether so many machines with room are enough for the pod and for those that wait longer for the same."""
    return _place_in_line(pod, snapshot) < machines


def least_gpus(pod: PodView) -> int:
    """Return how many GPUs a machine for the pod has at least: those it gets, or those that its labels ask for."""
    counts = []
    for term in shape_of(pod).value.terms:
        named = [wish.values for wish in term if wish.key.endswith(_GPU_COUNT_LABELS) and wish.operator == "In"]
        sizes = (number(value) for values in named for value in values)
        counts.append(min((size for size in sizes if size is not None), default=0))
    return max(pod.requests.gpus, min(counts, default=0))


def ways_to_buy(pod: PodView, pools: Iterable[NodePoolView]) -> frozenset[str]:
    """Return the capacity types (spot, on-demand, reserved) that the pod and one of its NodePools both allow."""
    shape = shape_of(pod)
    return frozenset(way for pool in pools for way in _ways(shape, Same(pool)))


@lru_cache(maxsize=16_384)
def _compatible(shape: Same[Shape], offered: Same[Offered]) -> bool:
    if isinstance(offered.value, Mapping):
        labels = offered.value
        return any(wanted.fulfilled(labels) for wanted in _wanted(shape))
    known = _known(Same(offered.value))
    return any(wanted.overlap(known) for wanted in _wanted(shape))


@lru_cache(maxsize=1024)
def _wanted(shape: Same[Shape]) -> tuple[Requirements, ...]:
    """What the pod asks of labels: any one of them."""
    return tuple(Requirements((*term, *shape.value.extra)) for term in shape.value.terms)


@lru_cache(maxsize=4096)
def _known(offered: Same[Iterable[Expression]]) -> Requirements:
    return Requirements(offered.value)


@lru_cache(maxsize=4096)
def _serves(shape: Same[Shape], pool: Same[NodePoolView]) -> bool:
    return shape.value.tolerates(pool.value.taint_keys) and _compatible(shape, Same(_offered_by(pool)))


@lru_cache(maxsize=512)
def _offered_by(pool: Same[NodePoolView]) -> Term:
    named = {expression.key for expression in pool.value.requirements}
    labels = (Expression(key, "In", (value,)) for key, value in pool.value.labels.items() if key not in named)
    return (*pool.value.requirements, *labels)


@lru_cache(maxsize=4096)
def _ways(shape: Same[Shape], pool: Same[NodePoolView]) -> tuple[str, ...]:
    known = _known(Same(pool.value.requirements))
    return tuple(
        way
        for way, bought in _WAYS_TO_BUY.items()
        if _compatible(shape, Same(bought)) and _known(Same(bought)).overlap(known)
    )


@lru_cache(maxsize=16_384)
def _could_serve(shape: Same[Shape], node: Same[NodeView]) -> bool:
    machine, asks = node.value, shape.value
    if machine.deleting or machine.disrupted or machine.unschedulable:
        return False
    if not asks.tolerates(machine.taint_keys - _TAINTS_OF_A_START):
        return False
    fits = _within(asks.requests, machine.allocatable, machine.gpus_advertised)
    return fits and _compatible(shape, Same(machine.labels))


@lru_cache(maxsize=64)
def _with_room(shape: Same[Shape], nodes: Same[Nodes], pods: Same[Pods]) -> Nodes:
    taken, asks = _taken(pods), shape.value
    return tuple(
        node
        for node in nodes.value
        if node.ready
        and node.initialized
        and (node.gpus_advertised or not asks.requests.gpus)
        and _could_serve(shape, Same(node))
        and asks.tolerates(node.taint_keys)
        and _within(asks.requests, node.allocatable - taken.get(node.name, Resources()), True)
    )


@lru_cache(maxsize=64)
def _coming(shape: Same[Shape], claims: Same[Claims]) -> Claims:
    found = [
        claim
        for claim in claims.value
        if not claim.deleting
        and not claim.reached("Initialized")
        and _within(shape.value.requests, claim.requests, True)
        and _compatible(shape, Same(claim.requirements))
    ]
    return tuple(sorted(found, key=lambda claim: (claim.created_at or 0.0, claim.name)))


@lru_cache(maxsize=64)
def _seats(shape: Same[Shape], claims: Same[Claims]) -> tuple[int, ...]:
    """How many such pods the first claim holds, the first two, and so on."""
    return tuple(accumulate(max(1, _copies(shape.value.requests, claim.requests)) for claim in claims.value))


@lru_cache(maxsize=8)
def _by_node(claims: Same[Claims]) -> Mapping[str, NodeClaimView]:
    return {claim.node: claim for claim in claims.value if claim.node}


@lru_cache(maxsize=8)
def _taken(pods: Same[Pods]) -> Mapping[str, Resources]:
    taken: dict[str, Resources] = {}
    for pod in pods.value:
        if pod.node and not pod.ended:
            taken[pod.node] = taken.get(pod.node, Resources()) + pod.requests
    return taken


@lru_cache(maxsize=8)
def _lines(pods: Same[Pods]) -> Mapping[Same[tuple[Term, ...]], list[tuple[float, str]]]:
    """Pods that wait, by what they ask of labels, oldest first."""
    lines: dict[Same[tuple[Term, ...]], list[tuple[float, str]]] = {}
    for pod in pods.value:
        if not (pod.node or pod.ended or pod.deleting):
            lines.setdefault(Same(shape_of(pod).value.terms), []).append((pod.created_at or 0.0, pod.uid))
    return {terms: sorted(line) for terms, line in lines.items()}


def _place_in_line(pod: PodView, snapshot: StartSnapshot) -> int:
    """How many older pods wait for the same kind of machine."""
    line = _lines(Same(snapshot.node_pods)).get(Same(shape_of(pod).value.terms), []) if snapshot.node_pods else []
    return bisect_left(line, (pod.created_at or 0.0, pod.uid))


def _nominated(snapshot: StartSnapshot) -> frozenset[str]:
    """Names of the NodeClaims that Karpenter's events say the pod should run on."""
    told = (event.message for event in snapshot.events if event.reason == "Nominated")
    return frozenset(
        word.removeprefix("nodeclaim/")
        for message in told
        for word in message.replace(",", " ").split()
        if word.startswith("nodeclaim/")
    )


def _within(asked: Resources, given: Resources, with_gpus: bool) -> bool:
    plain = asked.cpu_m <= given.cpu_m and asked.memory <= given.memory
    disk = asked.ephemeral <= given.ephemeral or not asked.ephemeral
    return plain and disk and (not with_gpus or asked.gpus <= given.gpus)


def _copies(asked: Resources, given: Resources) -> int:
    return asked.copies_in(given) if any(amount > 0 for amount in asked) else 1
