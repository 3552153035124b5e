"""What the controller publishes about slot pools, for the hub's pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LeadTime:
    """How long a new machine takes from NodeClaim to usable node, in seconds, from ``count`` observed ones."""

    p50_s: float
    p90_s: float
    count: int


@dataclass(frozen=True, slots=True)
class PoolState:
    """One slot pool.

    ``ready`` counts ready slots: under ``""`` all of them, under a normalised image reference those whose machine has
    the image. A reference that is missing is unknown.
    """

    pool_id: str
    ready: Mapping[str, int] = field(default_factory=dict)
    starting: int = 0
    """Slots of machines that are on their way and taken by nobody."""
    in_use: int = 0
    usd_per_hour: float | None = None
    usd_per_hour_spot: float | None = None
    lead: LeadTime | None = None
    no_capacity_since: float | None = None
    """When the cloud last began to have none for this pool, Unix seconds; None while it has, or if unknown."""
    unavailable: str = ""
    """Why nothing can be bought for it now (NodePool gone, limit reached), in plain words; "" if it can."""


@dataclass(frozen=True, slots=True)
class PublishedState:
    """The whole state; ``observed_at`` in Unix seconds. Older than a few intervals, it is unknown."""

    observed_at: float
    config_hash: str
    pools: Mapping[str, PoolState] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    """What the controller could not read (``nodes``, ``pods`` ...). A pool that is not in ``pools`` is unknown."""
