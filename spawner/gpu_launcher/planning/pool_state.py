"""How many slots of each pool are ready, on their way and in use, from what the cluster says now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gpu_launcher.domain.image_reference import normalised
from gpu_launcher.domain.instance_type import InstanceType
from gpu_launcher.domain.policy import Prices
from gpu_launcher.domain.pool_state import PoolState
from gpu_launcher.domain.quantity import MIB
from gpu_launcher.domain.resources import Resources
from gpu_launcher.domain.start import ShortageKind
from gpu_launcher.domain.views import NodeClaimView, NodePoolView, NodeView, PodView
from gpu_launcher.planning.placement import POOL_LABEL
from gpu_launcher.planning.pool_history import PoolHistory
from gpu_launcher.planning.served import ServedPool

_CLOUD_QUOTA = "the cloud account may not have more such machines"
_NO_NODE_POOL = "no NodePool of this cluster can serve it"


@dataclass(slots=True)
class _Machine:
    """Room on one machine, ready or on its way; ``free`` shrinks as pods are put there."""

    free: Resources
    pools: frozenset[str]
    node: NodeView | None = None
    """None for a machine on its way."""
    images: frozenset[str] = frozenset()
    """Normalised names of those that are known to be there."""

    def slots(self, served: ServedPool) -> int:
        return served.pool.slot.copies_in(self.free) if served.pool.id in self.pools else 0


def pool_states(
    nodes: Sequence[NodeView],
    pods: Sequence[PodView],
    claims: Sequence[NodeClaimView] | None,
    node_pools: Sequence[NodePoolView] | None,
    pools: Mapping[str, ServedPool],
    now: float,
    history: PoolHistory,
    prices: Prices,
) -> dict[str, PoolState]:
    """Return the state of each pool by its id; *pods* are those of all namespaces.

    A slot that several pools can use is counted in each. Pods that wait take the machines on their way first, so that
    no slot is promised twice. Without *claims* (None: not readable) nothing is known to be starting, without
    *node_pools* nothing to be unavailable.
    """
    machines = _machines(nodes, pods, claims or (), pools)
    _seat_waiting(machines, pods)
    in_use = _in_use(pods, pools)
    states = {}
    for key, served in pools.items():
        usd = served.pool.usd_per_hour
        shortage = history.shortage(served, now)
        quota = shortage is not None and shortage[0] is ShortageKind.QUOTA
        states[key] = PoolState(
            pool_id=key,
            ready=_ready(machines, served),
            starting=sum(machine.slots(served) for machine in machines if machine.node is None),
            in_use=in_use[key],
            usd_per_hour=usd,
            usd_per_hour_spot=None if usd is None else usd * prices.spot_ratio,
            lead=history.lead(key),
            no_capacity_since=shortage[1] if shortage and not quota else None,
            unavailable=_CLOUD_QUOTA if quota else "" if node_pools is None else _unavailable(node_pools, served),
        )
    return states


def usable(node: NodeView) -> bool:
    """Return whether the node takes pods now and will go on doing so, whatever its GPUs do."""
    return node.ready and node.initialized and not (node.disrupted or node.deleting or node.unschedulable)


def _machines(
    nodes: Sequence[NodeView],
    pods: Sequence[PodView],
    claims: Iterable[NodeClaimView],
    pools: Mapping[str, ServedPool],
) -> list[_Machine]:
    taken: dict[str, Resources] = {}
    for pod in pods:
        if pod.node and not pod.ended:
            taken[pod.node] = taken.get(pod.node, Resources()) + pod.requests
    machines = [
        _Machine(
            node.allocatable - taken.get(node.name, Resources()),
            _users_of_node(node, pools),
            node,
            frozenset(normalised(name) for names in node.images for name in names),
        )
        for node in nodes
        if usable(node)
    ]
    ready = {machine.node.name for machine in machines if machine.node}
    for claim in sorted(claims, key=lambda claim: (claim.created_at or 0.0, claim.name)):
        if claim.deleting or claim.reached("Initialized") or claim.node in ready:
            continue
        users = frozenset(key for key, served in pools.items() if served.uses_claim(claim))
        room = _promised(claim, [pools[key] for key in users])
        machines.append(_Machine(room - taken.get(claim.node, Resources()) if claim.node else room, users))
    return [machine for machine in machines if machine.pools]


def _users_of_node(node: NodeView, pools: Mapping[str, ServedPool]) -> frozenset[str]:
    return frozenset(
        key
        for key, served in pools.items()
        if served.uses_node(node) and (node.gpus_advertised or not served.pool.slot.gpus)
    )


def _promised(claim: NodeClaimView, users: Iterable[ServedPool]) -> Resources:
    """The room for sessions on a machine that is not there yet; before its type is known, what it was asked for."""
    most = Resources()
    for served in users:
        slots = served.pool.slots_per_host.get(claim.instance_type, 0)
        room = served.pool.slot.times(slots)
        most = Resources(*(max(pair) for pair in zip(most, room, strict=True)))
    return most if any(most) else claim.requests


def _seat_waiting(machines: Sequence[_Machine], pods: Iterable[PodView]) -> None:
    """Take the room of pods that wait for a node, oldest first, from the machines that will take them."""
    waiting = [pod for pod in pods if not (pod.node or pod.ended or pod.deleting)]
    on_their_way_first = sorted(machines, key=lambda machine: machine.node is not None)
    for pod in sorted(waiting, key=lambda pod: (pod.created_at or 0.0, pod.name)):
        pool_id = pod.labels.get(POOL_LABEL, "")
        for machine in on_their_way_first:
            if pool_id in machine.pools and min(machine.free - pod.requests) >= 0:
                machine.free -= pod.requests
                break


def _in_use(pods: Iterable[PodView], pools: Mapping[str, ServedPool]) -> dict[str, int]:
    counts = dict.fromkeys(pools, 0)
    for pod in pods:
        served = pools.get(pod.labels.get(POOL_LABEL, ""))
        if served is not None and pod.node and not pod.ended:
            gpus = served.pool.slot.gpus
            # A session may hold several slots; one that was sized by earlier settings holds at least one.
            counts[served.pool.id] += max(1, pod.requests.gpus // gpus) if gpus else 1
    return counts


def _ready(machines: Iterable[_Machine], served: ServedPool) -> dict[str, int]:
    """Ready slots whatever the image, and by image; an image that cannot be told from a node's list is left out."""
    free = [(machine, count) for machine in machines if machine.node and (count := machine.slots(served))]
    ready = {"": sum(count for _, count in free)}
    for image in served.images:
        count = sum(count for machine, count in free if image in machine.images)
        # A node lists its largest images only: one that is missing from a full list may be there all the same.
        if count or all(machine.node and machine.node.images_complete for machine, _ in free):
            ready[image] = count
    return ready


def _unavailable(node_pools: Sequence[NodePoolView], served: ServedPool) -> str:
    """Why no NodePool can buy for the pool now; "" if one can, or may."""
    able = [one for one in node_pools if not one.deleting and served.uses_node_pool(one)]
    if not able:
        return _NO_NODE_POOL
    open_now = [one for one in able if one.ready is not False]
    if not open_now:
        return f"NodePool {able[0].name} is not ready to buy machines"
    if any(_has_room(one, served) for one in open_now):
        return ""
    return f"the limit of NodePool {open_now[0].name} is reached"


def _has_room(node_pool: NodePoolView, served: ServedPool) -> bool:
    wanted = [_amounts(kind) for kind in served.pool.instance_types] or [_amounts_of_slot(served.pool.slot)]
    left = {name: most - node_pool.used.get(name, 0.0) for name, most in node_pool.limits.items()}
    return any(all(amounts.get(name, 0.0) <= room for name, room in left.items()) for amounts in wanted)


def _amounts(kind: InstanceType) -> dict[str, float]:
    return {"nvidia.com/gpu": kind.gpus, "cpu": kind.vcpu, "memory": kind.memory_mib * MIB, "nodes": 1}


def _amounts_of_slot(slot: Resources) -> dict[str, float]:
    return {"nvidia.com/gpu": slot.gpus, "cpu": slot.cpu_m / 1000, "memory": slot.memory, "nodes": 1}
