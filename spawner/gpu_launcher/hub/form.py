"""The spawn page's cards: what a person may pick, in words, as HTML that needs no script."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from gpu_launcher.domain.pool import NoPool, SlotPool
from gpu_launcher.domain.profile import Capacity, Image, Profile
from gpu_launcher.domain.request import StartRequest
from gpu_launcher.domain.resources import Resources
from gpu_launcher.domain.usage import Person
from gpu_launcher.explain.prices import dollars, pool_price
from gpu_launcher.explain.wait import cold_start, in_words
from gpu_launcher.hub import profile_list
from gpu_launcher.hub.offers import Offer, Offers
from gpu_launcher.planning.options import LONGEST_UNLISTED, parse_options

_MACHINES_SHOWN = 6


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
    unavailable: str
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
    checked: bool
    wait: str

    @property
    def choices(self) -> bool:
        """Whether there is anything to choose besides the profile itself."""
        return bool(len(self.images) > 1 or self.unlisted_images or self.gpus_most > self.gpus_least or self.spot_words)


async def options_form(spawner: Any) -> str:
    """Return the form for the spawner's person.

    A template that the site or an add-on has set for KubeSpawner's profiles is rendered instead, with our profiles.
    """
    offers, person = spawner.offers, spawner.person
    if spawner.profile_form_template or spawner.additional_profile_form_template_paths:
        rendered: str = spawner._render_options_form(profile_list.published(offers.open_to(person)))
        return rendered
    saved = spawner.user_options or None
    possible = offers.possible_for(person)
    request = parse_options(saved, offers.settings.profiles, from_saved=True, listed=possible)
    return render(
        cards_of(offers, person, request if isinstance(request, StartRequest) else None),
        notices=[request.notice] if saved and isinstance(request, StartRequest) and request.notice else [],
        usage=spawner.usage_words(),
        home_url=f"{spawner.hub.base_url}home",
    )


def render(cards: Iterable[Card], *, notices: Iterable[str] = (), usage: str = "", home_url: str = "") -> str:
    """Return the form's HTML; every value is escaped."""
    return _template().render(
        cards=tuple(cards),
        notices=tuple(notices),
        usage=usage,
        home_url=home_url,
        longest_unlisted=LONGEST_UNLISTED,
        # Our own files, which hold no value of anybody: they are not to be escaped.
        style=Markup(_static("options_form.css")),  # noqa: S704
        script=Markup(_static("options_form.js")),  # noqa: S704
    )


def cards_of(offers: Offers, person: Person, request: StartRequest | None) -> tuple[Card, ...]:
    """Return the cards of the profiles that are open to the person, the requested one checked if it can be had.

    Otherwise the first that can be had is checked, so that the page's button always starts something that exists.
    """
    shown = offers.open_to(person)
    possible = offers.possible_for(person)
    wanted = request.profile_id if request else None
    checked = wanted if wanted in possible else next(iter(possible), None)
    return tuple(_card(offer, offers, request, checked == offer.profile.id) for offer in shown)


def unavailable(profile: Profile, pool: NoPool) -> str:
    """Return why a profile cannot be started and what to do about it, for its user."""
    return (
        f'"{profile.display_name}" is unavailable: {pool.message}. Pick another profile; '
        "an administrator can correct this one."
    )


def _card(offer: Offer, offers: Offers, request: StartRequest | None, checked: bool) -> Card:
    profile, pool = offer.profile, offer.pool
    picked = request if request and request.profile_id == profile.id else StartRequest(profile.id)
    image = profile.image(picked.image_id)
    gpu = profile.gpu
    return Card(
        id=profile.id,
        title=profile.display_name,
        description=profile.description,
        gpu=_gpu_memory(profile, pool),
        size=_size(pool),
        terms=_terms(offer, offers),
        unavailable=pool.message if isinstance(pool, NoPool) else "",
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
        checked=checked,
        wait=_wait(offer, offers, image),
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
    return tuple(terms)


def _spot_words(offer: Offer, offers: Offers) -> str:
    if not offer.profile.spot_choice or isinstance(offer.pool, NoPool):
        return ""
    usd = pool_price(offer.pool, offers.settings.prices).spot
    return f"spot: {'' if usd is None else f'about {dollars(usd)}/h, '}may end with 2 minutes' notice"


def _wait(offer: Offer, offers: Offers, image: Image | None) -> str:
    """Return the estimate for a new machine; where a part of it is unknown it says so: a wait is not made up."""
    pool = offer.pool
    if isinstance(pool, NoPool):
        return ""
    estimate = cold_start(pool.slot.gpus, image, offers.settings.cluster)
    if not estimate.complete:
        return "wait unknown"
    return f"about {in_words(estimate.seconds)} if a machine has to come (estimate)"


def _machines(pool: SlotPool | NoPool) -> str:
    if isinstance(pool, NoPool) or not pool.instance_types:
        return ""
    names = [kind.name for kind in pool.instance_types]
    more = f" and {len(names) - _MACHINES_SHOWN} more" if len(names) > _MACHINES_SHOWN else ""
    return f"Machines: {', '.join(names[:_MACHINES_SHOWN])}{more}. Pool {pool.id}."


@cache
def _template() -> Any:
    return Environment(autoescape=True, loader=PackageLoader("gpu_launcher.hub")).get_template("options_form.html")


@cache
def _static(name: str) -> str:
    return files("gpu_launcher.hub").joinpath("static", name).read_text(encoding="utf-8")
