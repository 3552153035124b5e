"""What a start becomes when there is no machine for it: the admin's ladder, within what the user agreed to."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from gpu_launcher.domain.outcomes import RefusalReason
from gpu_launcher.domain.policy import Limits
from gpu_launcher.domain.pool import SlotPool
from gpu_launcher.domain.profile import Capacity, Profile
from gpu_launcher.domain.request import StartRequest
from gpu_launcher.domain.usage import Person, Usage
from gpu_launcher.domain.views import VolumeView
from gpu_launcher.planning.admission import admit
from gpu_launcher.planning.placement import capacity_of

_ZONE_ID = "topology.k8s.aws/zone-id"

ZONE_LABELS = frozenset({"topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone", _ZONE_ID})
"""Labels by which a node selector pins a zone."""

# Other machines, another NodePool or another account's quota may help against these; against a crash nothing does.
_HELPED = frozenset(
    {
        RefusalReason.CAPACITY,
        RefusalReason.CLOUD_QUOTA,
        RefusalReason.POOL_LIMIT,
        RefusalReason.NO_NODE_POOL,
        RefusalReason.NODE_CLASS,
    }
)


class RungKind(StrEnum):
    """What a further attempt gives up."""

    ZONE = "zone"
    CAPACITY = "capacity"
    PROFILE = "profile"


@dataclass(frozen=True, slots=True)
class Choices:
    """What one person may start now; ``usage`` leaves out the server that starts.

    ``profiles`` and ``pools`` are by profile id, in the admin's order; a profile without a pool cannot be had.
    """

    profiles: Mapping[str, Profile]
    pools: Mapping[str, SlotPool]
    person: Person
    usage: Usage = field(default_factory=Usage)
    limits: Limits = field(default_factory=Limits)

    def admit(self, profile: Profile, request: StartRequest) -> bool:
        """Return whether some machine serves the profile, and groups and limits allow the request."""
        return profile.id in self.pools and not admit(profile, request, self.person, self.usage, self.limits)


@dataclass(frozen=True, slots=True)
class Rung:
    """A further attempt: place *request* for *profile* on *pool*, all three in place of what was asked.

    ``any_zone``: the site's own node selector must not pin a zone either. ``words`` say it in the start's story.
    """

    kind: RungKind
    profile: Profile
    request: StartRequest
    pool: SlotPool
    any_zone: bool
    words: str

    @property
    def key(self) -> str:
        """What is remembered of an attempt: attempts with equal keys ask for the same machines."""
        return attempt_key(self.profile, self.request, self.pool, any_zone=self.any_zone)


def attempt_key(profile: Profile, request: StartRequest, pool: SlotPool, *, any_zone: bool = False) -> str:
    """Return the key of an attempt, also of the first one: the slot pool, and whether the zone was left open."""
    bought = pool.with_capacity(capacity_of(profile, request))
    return f"{bought.id}{'/any-zone' if any_zone else ''}"


def next_rung(
    profile: Profile,
    request: StartRequest,
    tried: Collection[str],
    reason: RefusalReason,
    choices: Choices,
    *,
    site_selector: Mapping[str, str] | None = None,
    volumes: Collection[VolumeView] | None = None,
) -> Rung | None:
    """Return what to try next for what was asked, None if nothing is left or nothing of it helps against *reason*.

    *profile* and *request* are those of the first attempt, *tried* the keys of the rungs taken since; each is taken
    once. *site_selector* is the hub's own node selector, *volumes* those that the pod mounts, None if unknown.
    """
    pool = choices.pools.get(profile.id)
    if reason not in _HELPED or pool is None:
        return None
    done = {attempt_key(profile, request, pool), *tried}
    zones = _Zones(site_selector or {}, volumes)
    for rung in (*_concessions(profile, request, pool, zones), *_other_profiles(profile, request, choices, zones)):
        if rung.key not in done:
            return rung
    return None


def instead_of(profile: Profile, request: StartRequest, other: Profile) -> StartRequest | None:
    """Return the request for another profile that comes nearest, None if it lacks the image that the user picked.

    GPUs: the most that it offers up to what was asked, at least its own least. The first image is nobody's pick: where
    the other profile does not have it, its own first is as good.
    """
    gpus = 0
    if other.gpu is not None:
        least = other.gpu.count
        gpus = max(least, min(request.gpus, other.gpu.max_count) // least * least)
    same = StartRequest(other.id, gpus=gpus, spot=request.spot and other.spot_choice)
    if request.image_reference is not None:
        return _with_reference(same, request.image_reference, other)
    image = profile.image(request.image_id)
    if image is None:
        return same
    found = next((one for one in other.images if one.reference == image.reference), other.image(image.id))
    if found is not None:
        return replace(same, image_id=found.id)
    return same if image == profile.images[0] else None


def _with_reference(request: StartRequest, reference: str, other: Profile) -> StartRequest | None:
    """The request with an unlisted image, where the profile lists or allows it."""
    listed = next((image for image in other.images if image.reference == reference), None)
    if listed is not None:
        return replace(request, image_id=listed.id)
    pattern = other.unlisted_image_pattern
    allowed = pattern is not None and re.fullmatch(pattern, reference)
    return replace(request, image_reference=reference) if allowed else None


@dataclass(frozen=True, slots=True)
class _Zones:
    """Where a start may be: the hub's own node selector, and the volumes (None: unknown)."""

    site_selector: Mapping[str, str]
    volumes: Collection[VolumeView] | None

    def may_leave(self, selector: Mapping[str, str]) -> bool:
        """Return whether a zone is pinned, by a profile's selector or the hub's, that no volume needs."""
        pins = {key: value for key, value in {**self.site_selector, **selector}.items() if key in ZONE_LABELS}
        # A volume that does not exist yet would be made in whatever zone this start ends in, and the next start, back
        # in the pinned zone, could never mount it.
        if not pins or self.volumes is None or any(volume.phase != "Bound" for volume in self.volumes):
            return False
        there = [set(volume.zones) for volume in self.volumes if volume.zones]
        here = {value for key, value in pins.items() if key != _ZONE_ID}
        # Volumes know zones by name: whether a zone's id is one of them cannot be told.
        return not there or bool(here and set.intersection(*there) - here)


def _concessions(profile: Profile, request: StartRequest, pool: SlotPool, zones: _Zones) -> Iterator[Rung]:
    """The same profile in any zone, then bought another way; what was given up stays given up."""
    any_zone = profile.fallback.any_zone and zones.may_leave(profile.node_selector)
    if any_zone:
        kept = {key: value for key, value in profile.node_selector.items() if key not in ZONE_LABELS}
        profile = replace(profile, node_selector=kept)
        yield _rung(RungKind.ZONE, profile, request, pool, "Trying other zones", any_zone=True)
    asked, other = capacity_of(profile, request), profile.fallback.capacity
    if other is None or not other.adds_to(asked):
        return
    # Whoever chose a machine that stays is not moved to one that the cloud may take back, unless they agreed.
    if other.interruptible and not asked.interruptible and not request.fallback:
        return
    profile = replace(profile, capacity=other, spot_choice=False)
    yield _rung(RungKind.CAPACITY, profile, replace(request, spot=False), pool, _BUYING[other], any_zone=any_zone)


_BUYING = {
    Capacity.ON_DEMAND: "Trying on-demand",
    Capacity.SPOT_FIRST: "Trying spot and on-demand",
    Capacity.SPOT: "Trying spot",
    Capacity.RESERVED: "Trying reserved capacity",
}


def _other_profiles(profile: Profile, request: StartRequest, choices: Choices, zones: _Zones) -> Iterator[Rung]:
    """The profiles that the user agreed to and may start now, each with its own concessions."""
    for other_id in profile.fallback.profiles if request.fallback else ():
        other = choices.profiles.get(other_id)
        instead = instead_of(profile, request, other) if other else None
        if other is None or instead is None or not choices.admit(other, instead):
            continue
        pool = choices.pools[other_id]
        yield _rung(RungKind.PROFILE, other, instead, pool, f'Trying "{other.display_name}" instead')
        yield from _concessions(other, instead, pool, zones)


def _rung(
    kind: RungKind, profile: Profile, request: StartRequest, pool: SlotPool, words: str, *, any_zone: bool = False
) -> Rung:
    return Rung(kind, profile, request, pool.with_capacity(capacity_of(profile, request)), any_zone, words)
