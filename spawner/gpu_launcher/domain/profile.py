"""What an admin offers and a user picks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Capacity(StrEnum):
    """How the machine is bought."""

    ON_DEMAND = "on-demand"
    """Anything that is not spot; capacity that is already reserved comes first."""
    SPOT_FIRST = "spot-first"
    """Spot where there is any, else on-demand; capacity that is already reserved comes before both."""
    SPOT = "spot"
    """Spot or nothing."""
    RESERVED = "reserved"
    """Capacity reservations only."""

    @property
    def interruptible(self) -> bool:
        """Whether the cloud may take the machine back with two minutes' notice."""
        return self in (Capacity.SPOT, Capacity.SPOT_FIRST)

    def adds_to(self, other: Capacity) -> bool:
        """Return whether it can buy what the other cannot: on-demand adds to spot, nothing adds to spot-first."""
        return not _BUYS[self] <= _BUYS[other]


_BUYS = {
    Capacity.ON_DEMAND: {"on-demand", "reserved"},
    Capacity.SPOT_FIRST: {"spot", "on-demand", "reserved"},
    Capacity.SPOT: {"spot"},
    Capacity.RESERVED: {"reserved"},
}


@dataclass(frozen=True, slots=True)
class GpuRequest:
    """Which GPUs a profile wants; all given conditions hold together.

    ``count`` is what a session gets, ``max_count`` what a user may raise it to, in steps of ``count``.
    ``host_gpus`` are the allowed GPU counts of the host; None pins the smallest host that holds ``max_count``.
    """

    name: str | None = None
    count: int = 1
    memory_mib_at_least: int | None = None
    max_count: int = 1
    host_gpus: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """A notebook image; ``bytes`` is its size on disk, None if unknown."""

    id: str
    display_name: str
    reference: str
    bytes: int | None = None
    session_extension: bool = False


@dataclass(frozen=True, slots=True)
class Size:
    """Explicit amounts for the smallest session of a profile; None takes the whole slot (or, for shm, the default)."""

    cpu_m: int | None = None
    memory: int | None = None
    ephemeral: int | None = None
    shm: int | None = None


@dataclass(frozen=True, slots=True)
class ProfileLimits:
    """Limits on sessions of one profile; None is no limit. ``max_age_s`` ends the protection from disruption."""

    gpus_per_user: int | None = None
    gpus_per_group: int | None = None
    gpus_total: int | None = None
    max_age_s: int | None = None


@dataclass(frozen=True, slots=True)
class HeadroomBounds:
    """Least and most spare slots to keep for a profile."""

    min: int = 0
    max: int = 0


@dataclass(frozen=True, slots=True)
class Fallback:
    """What a start becomes when there is no machine for it: each step once, in the order zone, capacity, profiles.

    ``capacity`` is another way of buying; ``profiles`` are ids, taken only with the user's consent. ``any_zone`` lets a
    start leave the zone that a node selector pins, where its volumes allow.
    """

    capacity: Capacity | None = None
    profiles: tuple[str, ...] = ()
    any_zone: bool = False


@dataclass(frozen=True, slots=True)
class Profile:
    """One card on the spawn page. ``gpu`` None is a CPU profile; ``groups`` empty admits everybody.

    ``spot_choice`` lets the user tick spot, which turns on-demand into spot-first for that session.
    ``unlisted_image_hint`` says in a user's words what the pattern allows. ``scratch`` is the disk, in bytes, that a
    session must at least have. ``instance_types`` empty allows all.
    """

    id: str
    display_name: str
    description: str = ""
    default: bool = False
    gpu: GpuRequest | None = None
    capacity: Capacity = Capacity.ON_DEMAND
    spot_choice: bool = False
    images: tuple[Image, ...] = ()
    unlisted_image_pattern: str | None = None
    unlisted_image_hint: str = ""
    size: Size = field(default_factory=Size)
    scratch: int = 0
    runtime_class: str | None = None
    groups: tuple[str, ...] = ()
    limits: ProfileLimits = field(default_factory=ProfileLimits)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    instance_types: tuple[str, ...] = ()
    start_timeout_s: int = 900
    headroom: HeadroomBounds = field(default_factory=HeadroomBounds)
    fallback: Fallback = field(default_factory=Fallback)

    @property
    def risky_fallback(self) -> bool:
        """Whether its fallback turns capacity that stays into capacity that the cloud may take back."""
        other = self.fallback.capacity
        return other is not None and other.interruptible and not self.capacity.interruptible

    @property
    def needs_consent(self) -> bool:
        """Whether its fallback holds what only the user can agree to: another profile, or the risk of spot."""
        return bool(self.fallback.profiles) or self.risky_fallback

    def image(self, image_id: str | None) -> Image | None:
        """Return the listed image of that id, the first for None; None if there is no such image."""
        if image_id is None:
            return self.images[0] if self.images else None
        return next((image for image in self.images if image.id == image_id), None)


def default_profile(profiles: tuple[Profile, ...]) -> Profile:
    """Return the profile marked as default; a single profile is the default by itself. Raises LookupError if none."""
    if len(profiles) == 1:
        return profiles[0]
    for profile in profiles:
        if profile.default:
            return profile
    raise LookupError("no profile is marked as default")
