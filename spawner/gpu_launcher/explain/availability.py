"""Whether a profile can be had now, in the words of its card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from gpu_launcher.domain.image_reference import normalised
from gpu_launcher.domain.pool import SlotPool
from gpu_launcher.domain.pool_state import PoolState, PublishedState
from gpu_launcher.domain.stage import StartKind
from gpu_launcher.explain.eta import Eta, wait_words
from gpu_launcher.explain.wait import in_words

EtaOf = Callable[[StartKind], Eta | None]
"""What a whole start of that kind takes; None where nothing can be said."""

_DAY_S = 86_400.0


class AvailabilityState(StrEnum):
    """The four states of a card; its shape follows from it. Unavailable and unknown can still be started."""

    READY = "ready"
    WAIT = "wait"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Availability:
    """What a card says: plain words, and what they were made of."""

    state: AvailabilityState
    words: str
    eta: Eta | None = None
    """Of the start that the words are about; None where nothing can be said."""
    slots: int = 0
    """Ready slots."""
    since: float | None = None
    """Since when there is no capacity, Unix seconds, so that a page can say it in the reader's own time zone."""


def availability(
    pool: SlotPool, published: PublishedState | None, now: float, eta: EtaOf, *, image: str = ""
) -> Availability:
    """Return what is known at *now* of a session of the pool that starts with *image* ("" counts any image as there).

    *published* None is a state that is missing or too old; then, and where it does not hold the pool, it is unknown.
    """
    state = published.pools.get(pool.id) if published is not None else None
    if state is None:
        return _unknown(eta)
    # A ready slot is there whatever the cloud says about further machines.
    ready, there = _ready(state, image), state.ready.get("", 0)
    if ready > 0:
        warm = eta(StartKind.WARM)
        words = f"ready now, about {in_words(warm.p50_s)}" if warm else "ready now"
        return Availability(AvailabilityState.READY, words, warm, slots=ready)
    if there <= 0 and state.starting <= 0 and (state.unavailable or state.no_capacity_since is not None):
        return _unavailable(state, now)
    coming = eta(StartKind.LUKEWARM if there > 0 else StartKind.COLD)
    if coming is None:
        return Availability(AvailabilityState.UNKNOWN, "wait unknown")
    return Availability(AvailabilityState.WAIT, wait_words(coming), coming)


def _ready(state: PoolState, image: str) -> int:
    # The controller leaves out an image of which it cannot tell whether it is there.
    return state.ready.get(normalised(image) if image else "", 0)


def _unknown(eta: EtaOf) -> Availability:
    cold = eta(StartKind.COLD)
    if cold is None:
        return Availability(AvailabilityState.UNKNOWN, "wait unknown")
    words = f"wait unknown, {wait_words(cold)} if a machine has to come"
    return Availability(AvailabilityState.UNKNOWN, words, cold)


def _unavailable(state: PoolState, now: float) -> Availability:
    if state.unavailable:
        return Availability(AvailabilityState.UNAVAILABLE, f"unavailable: {state.unavailable}")
    since = min(now, max(0.0, state.no_capacity_since or 0.0))
    return Availability(AvailabilityState.UNAVAILABLE, f"no capacity since {time_words(since, now)}", since=since)


def time_words(at: float, now: float) -> str:
    """Return a moment as text, in UTC and saying so: ``"10:14 UTC"``, with the date where it is more than a day ago."""
    moment = datetime.fromtimestamp(at, UTC)
    return moment.strftime("%H:%M UTC" if now - at < _DAY_S else "%Y-%m-%d %H:%M UTC")
