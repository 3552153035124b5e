"""What a user could start instead, and what they agree to in advance."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf

from gpu_launcher.domain.policy import Prices
from gpu_launcher.domain.pool_state import PublishedState
from gpu_launcher.domain.profile import Profile
from gpu_launcher.domain.request import StartRequest
from gpu_launcher.domain.stage import StartKind
from gpu_launcher.explain.availability import Availability, AvailabilityState, availability
from gpu_launcher.explain.eta import Eta
from gpu_launcher.explain.prices import pool_price
from gpu_launcher.explain.wait import in_words
from gpu_launcher.planning.fallback import Choices

# One button each. Fewer hides what is there, more is a second spawn page.
_MOST = 3


@dataclass(frozen=True, slots=True)
class Alternative:
    """A profile to start instead, with its own defaults; dollars per hour of one session, None if unknown."""

    profile_id: str
    title: str
    words: str
    """``"ready now"``, ``"about 2 min"`` or ``"wait unknown"``."""
    usd_per_hour: float | None
    ready_now: bool


def alternatives(
    choices: Choices,
    published: PublishedState | None,
    without: str,
    now: float,
    *,
    eta: Callable[[Profile, StartKind], Eta | None],
    prices: Prices,
    hub_image: str = "",
    tried: Collection[str] = (),
) -> tuple[Alternative, ...]:
    """Return at most three profiles in place of *without* (an id) that the person may start now, the best first.

    Ready ones come first, then by wait, then those of unknown wait; the admin's own fallbacks before others of the
    same. Left out: what is unavailable, what needs the very machines that are short, and a profile without a GPU in
    place of one with, unless the admin names it. *hub_image* is what profiles without images start, *tried* the keys
    of the attempts that this start has made.
    """
    asked = choices.profiles.get(without)
    if asked is None:
        return ()
    short = {key.partition("/")[0] for key in tried}
    if without in choices.pools:
        short.add(choices.pools[without].id)
    found: list[tuple[tuple[float, ...], Alternative]] = []
    for profile in choices.profiles.values():
        if not _in_place_of(asked, profile, choices, short):
            continue
        pool, image = choices.pools[profile.id], profile.image(None)
        state = availability(
            pool,
            published,
            now,
            partial(eta, profile),
            image=image.reference if image else hub_image,
        )
        if state.state is AvailabilityState.UNAVAILABLE:
            continue
        usd = pool_price(pool, prices).of(profile.capacity)
        other = Alternative(
            profile.id, profile.display_name, _words(state), usd, state.state is AvailabilityState.READY
        )
        found.append((_rank(state, profile.id in asked.fallback.profiles, usd), other))
    return tuple(other for _, other in sorted(found, key=lambda pair: pair[0])[:_MOST])


def consent_words(profile: Profile, others: Mapping[str, Profile]) -> str:
    """Return what a user agrees to by ticking a profile's fallback, to be read after "If there is none:".

    "" if there is nothing to agree to. *others* are the profiles that are open to the user and can be had, by id;
    closed ones are never named.
    """
    agreed = []
    if profile.risky_fallback:
        agreed.append("use spot, which may end with 2 minutes' notice")
    named = [_named(others[key]) for key in profile.fallback.profiles if key in others]
    if named:
        agreed.append(f"start {' or '.join(named)} instead")
    return ", or ".join(agreed)


def _named(profile: Profile) -> str:
    risk = " (may end with 2 minutes' notice)" if profile.capacity.interruptible else ""
    return f"{profile.display_name}{risk}"


def _in_place_of(asked: Profile, other: Profile, choices: Choices, short: Collection[str]) -> bool:
    alike = (other.gpu is None) == (asked.gpu is None) or other.id in asked.fallback.profiles
    if other.id == asked.id or not alike:
        return False
    request = StartRequest(other.id, gpus=other.gpu.count if other.gpu else 0)
    return choices.admit(other, request) and choices.pools[other.id].id not in short


def _rank(state: Availability, named: bool, usd: float | None) -> tuple[float, ...]:
    kind = {AvailabilityState.READY: 0.0, AvailabilityState.WAIT: 1.0}.get(state.state, 2.0)
    # A second more or less decides nothing among slots that are ready.
    wait = state.eta.p50_s if state.state is AvailabilityState.WAIT and state.eta else 0.0
    return kind, wait, 0.0 if named else 1.0, inf if usd is None else usd


def _words(state: Availability) -> str:
    if state.state is AvailabilityState.WAIT and state.eta:
        return f"about {in_words(state.eta.p50_s)}"
    return "ready now" if state.state is AvailabilityState.READY else "wait unknown"
