"""Memory of what the cloud did not give: NodeClaims are gone seconds after the cloud's refusal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

from gpu_launcher.domain.start import Shortage, ShortageKind
from gpu_launcher.domain.views import EventView, NodeClaimView
from gpu_launcher.planning.dialects import CAPACITY_TYPE, INSTANCE_TYPE

ZONE = "topology.kubernetes.io/zone"
Value = TypeVar("Value")

# The account's limits, not the cloud's stock. Karpenter treats both alike.
_QUOTA = (
    "VcpuLimitExceeded",
    "MaxSpotInstanceCountExceeded",
    "InsufficientFreeAddressesInSubnet",
    "InstanceLimitExceeded",
    "MaxFleetCountExceeded",
    "VolumeLimitExceeded",
    "MaxIOPSLimitExceeded",
    "AccountLimitExceeded",
    "QuotaExceeded",
    "QUOTA_EXCEEDED",
    "OperationNotAllowed",
)
_CAPACITY = (
    "InsufficientInstanceCapacity",
    "UnfulfillableCapacity",
    "ReservationCapacityExceeded",
    "InsufficientHostCapacity",
    "InsufficientReservedInstanceCapacity",
    "SkuNotAvailable",
    "ZONE_RESOURCE_POOL_EXHAUSTED",
    "OverconstrainedAllocationRequest",
    "AllocationFailed",
)
# Karpenter reports these under the same reason though the cloud was not even asked.
_NOT_THE_CLOUD = ("resolving node class", "nodeclass", "NodeClass")
_SPOT = ("Spot capacity", "Spot instance", "MaxSpotInstanceCountExceeded")
_RESERVED = ("ReservationCapacityExceeded", "requested reservation")
_ZONE_TOLD = re.compile(r"Availability Zone you requested \(([a-z0-9-]{1,40})\)")
# With hundreds of starts during a shortage there are hundreds of claims a minute; the newest tell enough.
_KEPT = 500
# A class of fifty that starts at once is refused fifty times for one reason.
_BURST_S = 5.0


@dataclass(frozen=True)
class Shortages:
    """What was seen so far; every method returns a new value, and the same one where nothing changed.

    ``told`` are the refusals of Karpenter's events by the claim's uid, ``gone`` the claims that ended before a machine
    was launched, ``coming`` the claims that could still end so.
    """

    told: Mapping[str, EventView] = field(default_factory=dict)
    gone: Mapping[str, tuple[NodeClaimView, float]] = field(default_factory=dict)
    coming: Mapping[str, NodeClaimView] = field(default_factory=dict)

    def seen_event(self, event: EventView) -> Shortages:
        """Take in an event; only those about a NodeClaim that the cloud refused matter."""
        if event.kind != "NodeClaim" or event.reason not in ("InsufficientCapacityError", "NodeClassNotReady"):
            return self
        key = event.uid or event.name
        if key in self.told:
            return self
        return replace(self, told=_last({**self.told, key: event}))

    def seen_claim(self, kind: str, claim: NodeClaimView, now: float) -> Shortages:
        """Take in a NodeClaim as ADDED, MODIFIED or DELETED; *now* is when it was seen, Unix seconds."""
        key = claim.uid or claim.name
        if kind != "DELETED" and not claim.deleting:
            if claim.reached("Launched"):
                return self._without(key)
            return replace(self, coming=_last({**self.coming, key: claim}))
        if claim.reached("Launched") or _given_up(claim):
            return self._without(key)
        if key in self.gone:
            return self
        rest = {uid: known for uid, known in self.coming.items() if uid != key}
        return replace(self, gone=_last({**self.gone, key: (claim, now)}), coming=rest)

    def all(self, now: float, keep_s: float = 1800.0) -> tuple[Shortage, ...]:
        """Return what the last *keep_s* seconds held, oldest first, each claim once."""
        return tuple(one for one in self._found if now - keep_s <= one.at)

    @cached_property
    def _found(self) -> tuple[Shortage, ...]:
        """All of them, oldest first; of many claims that ended alike at about the same time, the first."""
        found = [
            _shortage(ShortageKind.CAPACITY, at, claim, "", claim.node_pool)
            for key, (claim, at) in self.gone.items()
            if key not in self.told
        ]
        for key, event in self.told.items():
            at = event.first_at or event.at or (self.gone[key][1] if key in self.gone else 0.0)
            if shortage := _of_event(event, self._claim(key), at):
                found.append(shortage)
        kept: list[Shortage] = []
        latest: dict[object, float] = {}
        for one in sorted(found, key=lambda one: one.at):
            asked = one.claim.requirements if one.claim else ()
            alike = (one.kind, one.node_pool, one.instance_types, one.zones, one.capacity_types, asked)
            if one.at - latest.get(alike, -_BURST_S) >= _BURST_S:
                latest[alike] = one.at
                kept.append(one)
        return tuple(kept)

    def _claim(self, key: str) -> NodeClaimView | None:
        return self.gone[key][0] if key in self.gone else self.coming.get(key)

    def _without(self, key: str) -> Shortages:
        if key not in self.coming:
            return self
        return replace(self, coming={uid: known for uid, known in self.coming.items() if uid != key})


def kind_of(message: str) -> ShortageKind | None:
    """Return what a refusal's text speaks of; None where it is not about the cloud at all.

    One request asks for several machine types: while one of them fails for want of machines, quota is not the reason.
    """
    if any(word in message for word in _CAPACITY):
        return ShortageKind.CAPACITY
    if any(word in message for word in _QUOTA):
        return ShortageKind.QUOTA
    return None if any(word in message for word in _NOT_THE_CLOUD) else ShortageKind.CAPACITY


def _of_event(event: EventView, claim: NodeClaimView | None, at: float) -> Shortage | None:
    kind = None if event.reason == "NodeClassNotReady" else kind_of(event.message)
    if kind is None:
        return None
    # A NodePool's claims are named after it, with a hyphen and five characters.
    return _shortage(kind, at, claim, event.message, claim.node_pool if claim else event.name.rpartition("-")[0])


def _shortage(kind: ShortageKind, at: float, claim: NodeClaimView | None, message: str, pool: str) -> Shortage:
    told = tuple(dict.fromkeys(_ZONE_TOLD.findall(message)))
    return Shortage(
        kind=kind,
        at=at,
        node_pool=pool,
        claim=claim,
        instance_types=_values(claim, INSTANCE_TYPE),
        zones=told or _values(claim, ZONE),
        capacity_types=_ways(claim, message),
    )


def _ways(claim: NodeClaimView | None, message: str) -> tuple[str, ...]:
    """How the machine was to be bought. One request asks for one capacity type: reserved, else spot, else on-demand."""
    if any(word in message for word in _RESERVED):
        return ("reserved",)
    if any(word in message for word in _SPOT):
        return ("spot",)
    allowed = _values(claim, CAPACITY_TYPE)
    if told_on_demand(message):
        return ("on-demand",)
    return next(((way,) for way in ("reserved", "spot", "on-demand") if way in allowed), ())


def told_on_demand(message: str) -> bool:
    """Return whether the cloud's words are those that it has for on-demand machines."""
    return "VcpuLimitExceeded" in message or "capacity in the Availability Zone you requested" in message


def _values(claim: NodeClaimView | None, key: str) -> tuple[str, ...]:
    for one in claim.requirements if claim else ():
        if one.key == key and one.operator == "In":
            return tuple(sorted(one.values))
    return ()


def _given_up(claim: NodeClaimView) -> bool:
    """Whether Karpenter itself ended it after errors that say nothing about capacity."""
    launched = claim.conditions.get("Launched")
    return launched is not None and launched.reason not in ("", "AwaitingReconciliation", "Unknown", "Launched")


def _last(entries: dict[str, Value]) -> dict[str, Value]:
    for key in list(entries)[: max(0, len(entries) - _KEPT)]:
        del entries[key]
    return entries
