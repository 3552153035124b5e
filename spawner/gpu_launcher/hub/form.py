"""The spawn page: what a person may pick, as HTML that needs no script."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from gpu_launcher.domain.pool import NoPool
from gpu_launcher.domain.profile import Profile
from gpu_launcher.domain.request import StartRequest
from gpu_launcher.hub import profile_list
from gpu_launcher.hub.cards import Card, InUse, Seen, cards_of
from gpu_launcher.planning.options import LONGEST_UNLISTED, parse_options


async def options_form(spawner: Any) -> str:
    """Return the form for the spawner's person.

    A template that the site or an add-on has set for KubeSpawner's profiles is rendered instead, with our profiles.
    """
    offers, person = spawner.offers, spawner.person
    if spawner.profile_form_template or spawner.additional_profile_form_template_paths:
        rendered: str = spawner._render_options_form(profile_list.published(offers.open_to(person)))
        return rendered
    await _look(spawner)
    saved = spawner.user_options or None
    possible = offers.possible_for(person)
    request = parse_options(saved, offers.settings.profiles, from_saved=True, listed=possible)
    return render(
        cards_of(offers, person, request if isinstance(request, StartRequest) else None, _seen(spawner)),
        notices=[request.notice] if saved and isinstance(request, StartRequest) and request.notice else [],
        in_use=_in_use(spawner),
        home_url=f"{spawner.hub.base_url}home",
    )


def render(
    cards: Iterable[Card], *, notices: Iterable[str] = (), in_use: InUse | None = None, home_url: str = ""
) -> str:
    """Return the form's HTML; every value is escaped."""
    return _template().render(
        cards=tuple(cards),
        notices=tuple(notices),
        in_use=in_use,
        home_url=home_url,
        longest_unlisted=LONGEST_UNLISTED,
        # Our own files, which hold no value of anybody: they are not to be escaped.
        style=Markup(_static("options_form.css")),  # noqa: S704
        script=Markup(_static("options_form.js")),  # noqa: S704
    )


def unavailable(profile: Profile, pool: NoPool) -> str:
    """Return why a profile cannot be started and what to do about it, for its user."""
    return (
        f'"{profile.display_name}" is unavailable: {pool.message}. Pick another profile; '
        "an administrator can correct this one."
    )


async def _look(spawner: Any) -> None:
    """Have the pods and the machines watched before the page says what is free."""
    try:
        await spawner._start_watching_pods()
        await spawner.watch_cluster()
    except Exception as error:
        # The page works without: then nothing is known of what is free, and it says so.
        spawner.log.warning("the spawn page could not look at the cluster error=%s", type(error).__name__)


def _seen(spawner: Any) -> Seen:
    return Seen(
        now=time.time(),
        published=spawner.published,
        eta=spawner.whole_start,
        choices=spawner.choices(),
        hub_image=spawner.any_image(spawner.image),
    )


def _in_use(spawner: Any) -> InUse | None:
    """Return the person's own GPUs in use, None without a limit on them or without any."""
    limit, own = spawner.offers.settings.limits.gpus_per_user, spawner.usage().own
    return InUse(limit, tuple(own)) if limit is not None and own else None


@cache
def _template() -> Any:
    return Environment(autoescape=True, loader=PackageLoader("gpu_launcher.hub")).get_template("options_form.html")


@cache
def _static(name: str) -> str:
    return files("gpu_launcher.hub").joinpath("static", name).read_text(encoding="utf-8")
