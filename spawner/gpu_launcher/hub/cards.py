"""The cards of the spawn page: each profile in words, as it can be had now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gpu_launcher.domain.pool import NoPool, SlotPool
from gpu_launcher.domain.pool_state import PublishedState
from gpu_launcher.domain.profile import Capacity, Image, Profile
from gpu_launcher.domain.request import StartRequest
from gpu_launcher.domain.resources import Resources
from gpu_launcher.domain.stage import StartKind
from gpu_launcher.domain.usage import Person, RunningServer
from gpu_launcher.explain.alternatives import alternatives, consent_words
from gpu_launcher.explain.availability import Availability, AvailabilityState, availability
from gpu_launcher.explain.eta import Eta
from gpu_launcher.explain.prices import dollars, pool_price
from gpu_launcher.explain.wait import cold_start
from gpu_launcher.hub.offers import Offer, Offers
from gpu_launcher.planning.admission import admit
from gpu_launcher.planning.fallback import Choices

_MACHINES_SHOWN = 6

MARKS = {
    AvailabilityState.READY: "●",
    AvailabilityState.WAIT: "◐",
    AvailabilityState.UNAVAILABLE: "✕",
    AvailabilityState.UNKNOWN: "?",
}
"""The shapes of a card's four states."""

_NO_MACHINE = "unavailable: no machine of this cluster can run this profile. Please tell an administrator."


@dataclass(frozen=True, slots=True)
class Choice:
    """One entry of a list."""

    id: str
    title: str
    checked: bool


@dataclass(frozen=True, slots=True)
class Card:
    """One profile as the page shows it; empty texts are left out."""

    id: str
    title: str
    description: str
    gpu: str
    size: str
    terms: tuple[str, ...]
    state: AvailabilityState
    words: str
    """Whether it can be had now, and how long it takes."""
    limit: str
    """Which limit stands against it, and how to make room."""
    no_pool: str
    """Why no machine can ever run it, in an admin's words; such a card cannot be picked."""
    machines: str
    images: tuple[Choice, ...]
    unlisted_images: bool
    unlisted_hint: str
    unlisted_image: str
    gpus: int
    gpus_least: int
    gpus_most: int
    spot_words: str
    spot: bool
    fallback_words: str
    fallback: bool
    checked: bool

    @property
    def mark(self) -> str:
        """The shape that says the state."""
        return MARKS[self.state]

    @property
    def choices(self) -> bool:
        """Whether there is anything to choose besides the profile itself."""
        return bool(
            len(self.images) > 1
            or self.unlisted_images
            or self.gpus_most > self.gpus_least
            or self.spot_words
            or self.fallback_words
        )


@dataclass(frozen=True, slots=True)
class InUse:
    """GPUs that a person uses, of how many they may."""

    limit: int
    servers: tuple[RunningServer, ...]

    @property
    def gpus(self) -> int:
        """Of all their servers."""
        return sum(server.gpus for server in self.servers)


def _unknown_wait(_: Profile, __: StartKind) -> Eta | None:
    return None


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known at the moment of the page (Unix seconds); None is unknown. ``eta`` estimates a whole start."""

    now: float = 0.0
    published: PublishedState | None = None
    eta: Callable[[Profile, StartKind], Eta | None] = _unknown_wait
    choices: Choices | None = None
    hub_image: str = ""
    """What a profile without images starts."""


def cards_of(
    offers: Offers, person: Person, request: StartRequest | None, seen: Seen | None = None
) -> tuple[Card, ...]:
    """Return the cards of the profiles that are open to the person, the requested one checked if it can be had.

    Otherwise the first that can be had is checked, so that the page's button always starts something that exists.
    """
    shown = offers.open_to(person)
    possible = offers.possible_for(person)
    wanted = request.profile_id if request else None
    checked = wanted if wanted in possible else next(iter(possible), None)
    return tuple(_card(offer, offers, request, seen or Seen(), checked == offer.profile.id) for offer in shown)


def _card(offer: Offer, offers: Offers, request: StartRequest | None, seen: Seen, checked: bool) -> Card:
    profile, pool = offer.profile, offer.pool
    picked = request if request and request.profile_id == profile.id else StartRequest(profile.id)
    image = profile.image(picked.image_id)
    gpu = profile.gpu
    state = _availability(offer, offers, image, seen)
    return Card(
        id=profile.id,
        title=profile.display_name,
        description=profile.description,
        gpu=_gpu_memory(profile, pool),
        size=_size(pool),
        terms=_terms(offer, offers),
        state=state.state,
        words=state.words,
        limit=_limit(profile, seen),
        no_pool=pool.message if isinstance(pool, NoPool) else "",
        machines=_machines(pool),
        images=tuple(Choice(each.id, each.display_name, each == image) for each in profile.images),
        unlisted_images=profile.unlisted_image_pattern is not None,
        unlisted_hint=profile.unlisted_image_hint,
        unlisted_image=picked.image_reference or "",
        gpus=picked.gpus or (gpu.count if gpu else 0),
        gpus_least=gpu.count if gpu else 0,
        gpus_most=gpu.max_count if gpu else 0,
        spot_words=_spot_words(offer, offers),
        spot=picked.spot,
        fallback_words=_fallback_words(offer, seen),
        fallback=picked.fallback,
        checked=checked,
    )


def _gpu_memory(profile: Profile, pool: SlotPool | NoPool) -> str:
    """Return the memory of one GPU as its maker writes it.

    "" where the pool's machines differ, and where the admin's own words already say it.
    """
    if isinstance(pool, NoPool):
        return ""
    sizes = {_sold_as(kind.gpu.memory_mib) for kind in pool.instance_types if kind.gpu and kind.gpu.count}
    words = f"{sizes.pop()} GB" if len(sizes) == 1 else ""
    return "" if words in profile.display_name else words


def _sold_as(mib: int) -> int:
    """Return the gigabytes in a GPU's name: clouds report 80 x 1024 MiB for some and 24 x 10^9 bytes for others."""
    return mib // 1024 if mib % 1024 == 0 else round(mib * 1024**2 / 1e9)


def _size(pool: SlotPool | NoPool) -> str:
    if isinstance(pool, NoPool):
        return ""
    slot = pool.slot
    gpus = f"{slot.gpus} GPU{'s' if slot.gpus > 1 else ''}" if slot.gpus else ""
    if pool.shared and len(pool.host_gpus) == 1:
        gpus = f"{slot.gpus} of {pool.host_gpus[0]} GPUs"
    return " · ".join(filter(None, (_cpu(slot), _memory(slot), gpus)))


def _cpu(slot: Resources) -> str:
    return f"{slot.cpu_m // 100 / 10:g} CPU" if slot.cpu_m else ""


def _memory(slot: Resources) -> str:
    # Rounded down: nobody gets less than the page says.
    tenths = slot.memory * 10 // 1024**3
    return f"{tenths // 10 if tenths >= 1000 else tenths / 10:g} GiB" if slot.memory else ""


def _terms(offer: Offer, offers: Offers) -> tuple[str, ...]:
    """Return what the session costs and under which conditions it runs; only what is known and true."""
    profile, pool = offer.profile, offer.pool
    if isinstance(pool, NoPool):
        return ()
    price = pool_price(pool, offers.settings.prices)
    usd = price.of(profile.capacity)
    terms = [] if usd is None else [f"{'about ' if profile.capacity.interruptible else ''}{dollars(usd)}/h"]
    if terms and profile.capacity is Capacity.SPOT_FIRST:
        terms = [f"{terms[0]} on spot, else {dollars(price.on_demand)}/h"]
    if profile.capacity.interruptible:
        terms.append(f"{profile.capacity}: may end with 2 minutes' notice")
    if profile.fallback.capacity and not profile.risky_fallback:
        usd = price.of(profile.fallback.capacity)
        terms.append(f"if there is none: {profile.fallback.capacity}{'' if usd is None else f', {dollars(usd)}/h'}")
    return tuple(terms)


def _spot_words(offer: Offer, offers: Offers) -> str:
    if not offer.profile.spot_choice or isinstance(offer.pool, NoPool):
        return ""
    usd = pool_price(offer.pool, offers.settings.prices).spot
    return f"spot: {'' if usd is None else f'about {dollars(usd)}/h, '}may end with 2 minutes' notice"


def _fallback_words(offer: Offer, seen: Seen) -> str:
    """Return what the user can agree to, "" for nothing."""
    if seen.choices is None or isinstance(offer.pool, NoPool):
        return ""
    possible = {key: one for key, one in seen.choices.profiles.items() if key in seen.choices.pools}
    return consent_words(offer.profile, possible)


def _limit(profile: Profile, seen: Seen) -> str:
    """Return the limit that a smallest session of the profile would exceed, and how to make room; "" for none."""
    if seen.choices is None or profile.gpu is None:
        return ""
    request, choices = StartRequest(profile.id, gpus=profile.gpu.count), seen.choices
    refusal = admit(profile, request, choices.person, choices.usage, choices.limits)
    return refusal.message if refusal else ""


def _availability(offer: Offer, offers: Offers, image: Image | None, seen: Seen) -> Availability:
    """Return how the card stands; a limit stands before everything that the cluster has."""
    profile, pool = offer.profile, offer.pool
    if isinstance(pool, NoPool):
        return Availability(AvailabilityState.UNAVAILABLE, _NO_MACHINE)
    if _limit(profile, seen):
        return Availability(AvailabilityState.UNAVAILABLE, "limit reached")
    known = cold_start(pool.slot.gpus, image, offers.settings.cluster).complete

    def eta(kind: StartKind) -> Eta | None:
        found = seen.eta(profile, kind)
        # A wait is not made up: with an image of unknown size only starts that were measured say how long.
        return found if known or kind is StartKind.WARM or (found and found.measured) else None

    state = availability(pool, seen.published, seen.now, eta, image=image.reference if image else seen.hub_image)
    if state.state is not AvailabilityState.UNAVAILABLE:
        return state
    return Availability(state.state, " · ".join(filter(None, (state.words, _instead(profile, offers, seen)))))


def _instead(profile: Profile, offers: Offers, seen: Seen) -> str:
    if seen.choices is None:
        return ""
    others = alternatives(
        seen.choices, seen.published, profile.id, seen.now,
        eta=seen.eta, prices=offers.settings.prices, hub_image=seen.hub_image,
    )  # fmt: skip
    return f"try {others[0].title} instead ({others[0].words})" if others else ""


def _machines(pool: SlotPool | NoPool) -> str:
    if isinstance(pool, NoPool) or not pool.instance_types:
        return ""
    names = [kind.name for kind in pool.instance_types]
    more = f" and {len(names) - _MACHINES_SHOWN} more" if len(names) > _MACHINES_SHOWN else ""
    return f"Machines: {', '.join(names[:_MACHINES_SHOWN])}{more}. Pool {pool.id}."
