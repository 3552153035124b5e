"""Which of the cloud's refusals concern a pod, what they say together, and since when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from gpu_launcher.domain.outcomes import Refusal
from gpu_launcher.domain.start import Shortage, ShortageKind, StartSnapshot
from gpu_launcher.domain.views import Expression, NodePoolView, PodView
from gpu_launcher.explain import refusals
from gpu_launcher.explain.finding import listed
from gpu_launcher.explain.matching import compatible, ways_to_buy
from gpu_launcher.explain.shape import ZONE, Term
from gpu_launcher.planning.dialects import INSTANCE_TYPE

# Karpenter leaves an offering alone this long after the cloud refused it, and makes no NodeClaim meanwhile: a refusal
# from just before a start is all that the start will ever see of the shortage.
_CLOUD_MEMORY_S = 180.0
# Two refusals further apart than this are two shortages: Karpenter's memory, and one more try.
_SAME_SHORTAGE_S = 400.0
# The order in which one request tries them.
_WAYS = ("reserved", "spot", "on-demand")
_WAY_WORDS = {"reserved": "Reserved capacity", "spot": "Spot", "on-demand": "On-demand", "": "The cloud"}
_ACCOUNT_WORDS = {"reserved": "reserved", "spot": "spot", "on-demand": "on-demand", "": "such"}


@dataclass(frozen=True, slots=True)
class Refused:
    """What the cloud did not give for one pod.

    ``tried`` are lines for people. ``blocked_at`` is when, in this attempt, the cloud first refused (None: the last way
    to buy has not been refused), ``since`` when the shortage itself began, ``quota`` whether it is the account's limit.
    """

    tried: tuple[str, ...] = ()
    blocked_at: float | None = None
    since: float | None = None
    quota: bool = False

    def ended(self, now: float, patience_s: float) -> Refusal | None:
        """Return the refusal once the pod has waited long enough for the cloud to change its mind, else None."""
        if self.blocked_at is None or now - self.blocked_at < patience_s:
            return None
        since = self.blocked_at if self.since is None else self.since
        say = refusals.cloud_quota if self.quota else refusals.no_capacity
        return say(self.tried, since, now - self.blocked_at)


def refused(pod: PodView, snapshot: StartSnapshot, pools: Iterable[NodePoolView]) -> Refused:
    """Return what the snapshot's shortages mean for the pod, *pools* being the NodePools that can serve it."""
    pools = tuple(pools)
    concerning = [
        one for one in snapshot.shortages if one.at <= snapshot.now + 60 and _concerns(one, pod, snapshot, pools)
    ]
    begin = snapshot.asked_at
    earlier = any(one.at < begin for one in concerning)
    ended_at = _capacity_seen_at(pod, snapshot) if earlier else 0.0
    current = [
        one for one in concerning if one.at >= begin or (begin - one.at <= _CLOUD_MEMORY_S and one.at > ended_at)
    ]
    if not current:
        return Refused()
    last = _last_way(pod, pools)
    blocking = [one for one in current if not one.capacity_types or last in one.capacity_types or not last]
    if not blocking:
        return Refused(tried=_tried(current))
    return Refused(
        tried=_tried(current),
        blocked_at=max(begin, min(one.at for one in current)),
        since=_began(blocking[-1].at, [one.at for one in concerning if one in blocking or one.at < begin]),
        quota=all(one.kind is ShortageKind.QUOTA for one in blocking),
    )


def _concerns(one: Shortage, pod: PodView, snapshot: StartSnapshot, pools: tuple[NodePoolView, ...]) -> bool:
    pool = next((pool for pool in pools if pool.name == one.node_pool), None)
    if pool is None and snapshot.node_pools is not None:
        return False
    if pool is not None and _class_was_not_ready(pool, one.at):
        return False
    if one.claim is not None and one.claim.requirements:
        return compatible(pod, one.claim.requirements, snapshot.volumes or ())
    return compatible(pod, _told(one.zones, one.instance_types), snapshot.volumes or ())


@lru_cache(maxsize=256)
def _told(zones: tuple[str, ...], instance_types: tuple[str, ...]) -> Term:
    """Requirements of a machine of which only an event told."""
    known = ((ZONE, zones), (INSTANCE_TYPE, instance_types))
    return tuple(Expression(key, "In", values) for key, values in known if values)


def _class_was_not_ready(pool: NodePoolView, at: float) -> bool:
    """Whether Karpenter took the claim back because of its node class: it says so nowhere but in its log."""
    found = pool.conditions.get("NodeClassReady")
    if found is None or found.since is None:
        return False
    return found.since >= at if found.true else found.since <= at + 5


def _capacity_seen_at(pod: PodView, snapshot: StartSnapshot) -> float:
    """When the cloud last launched such a machine."""
    launched = (
        claim.conditions["Launched"].since or 0.0
        for claim in snapshot.claims or ()
        if claim.reached("Launched") and compatible(pod, claim.requirements, snapshot.volumes or ())
    )
    return max(launched, default=0.0)


def _last_way(pod: PodView, pools: tuple[NodePoolView, ...]) -> str:
    """The way of buying that Karpenter tries last; "" if none is known."""
    allowed = ways_to_buy(pod, pools)
    return next((way for way in reversed(_WAYS) if way in allowed), "")


def _began(last: float, times: list[float]) -> float:
    """When the shortage began that *last* belongs to."""
    first = last
    for at in sorted((at for at in times if at <= last), reverse=True):
        if first - at > _SAME_SHORTAGE_S:
            break
        first = at
    return first


def _tried(shortages: list[Shortage]) -> tuple[str, ...]:
    zones: dict[tuple[str, ShortageKind], set[str]] = {}
    for one in shortages:
        way = one.capacity_types[0] if one.capacity_types and one.capacity_types[0] in _WAY_WORDS else ""
        zones.setdefault((way, one.kind), set()).update(one.zones)
    return tuple(_line(way, kind, tuple(sorted(where))) for (way, kind), where in zones.items())


def _line(way: str, kind: ShortageKind, zones: tuple[str, ...]) -> str:
    if kind is ShortageKind.QUOTA:
        return f"The account's limit for {_ACCOUNT_WORDS[way]} machines is reached"
    return f"{_WAY_WORDS[way]} had none{f' in {listed(zones)}' if zones else ''}"
