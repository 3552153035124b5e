"""The pages of a start, while it goes on and when it could not be: HTML from what the spawner tells, all escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader
from jupyterhub.utils import url_escape_path, url_path_join
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
"""Where the hub finds our spawn_pending.html and not_running.html."""

MARKS = {"done": "✓", "now": "◐", "ahead": "○", "failed": "✕"}
SPOKEN = {"done": "done: ", "now": "now: ", "ahead": "to come: ", "failed": "failed: "}
"""What the marks say to those who do not see them."""

UNEXPECTED = (
    "The hub could not start this server, and the fault is not yours. Your files are safe. Try again; "
    "if it happens again, give the reference to an administrator."
)

_NOTHING: Mapping[str, Any] = {
    "title": "", "server": "", "now": 0.0, "elapsed_s": 0.0, "eta": None, "price": None, "lines": (), "tried": (),
    "unknown": (), "alternatives": (), "refusal": None,
}  # fmt: skip


class StartPages:
    """What the hub's templates ask of a spawner; a spawner without these methods gets JupyterHub's own pages."""

    def pending_page(self, xsrf: str) -> Markup:
        """Return the page of a start that goes on; *xsrf* is the token of the person who looks."""
        return start_page(self, xsrf)

    def failed_page(
        self, xsrf: str, exception: BaseException | None, message: str | None = None, html_message: str | None = None
    ) -> Markup:
        """Return the page of a start that ended without a server.

        The messages are those of JupyterHub for the exception; the HTML one comes from hooks of the site and is trusted
        as JupyterHub trusts it.
        """
        return start_page(self, xsrf, exception=exception, message=message, html_message=html_message, ended=True)


def start_page(
    spawner: Any,
    xsrf: str,
    *,
    exception: BaseException | None = None,
    message: str | None = None,
    html_message: str | None = None,
    ended: bool = False,
) -> Markup:
    """Return the HTML of a start, for a person with the token *xsrf*."""
    owner, name = spawner.user, spawner.name
    told = _failure(spawner, exception, message) if ended else {**_NOTHING, "server": name, **spawner.start_data()}
    progress = owner.progress_url(name)
    spawn = url_path_join(spawner.hub.base_url, "spawn", owner.escaped_name, url_escape_path(name))
    html = _template().render(
        told=told,
        ended=ended,
        heading=heading(told, ended),
        notice=spawner.notice,
        tried=beside_the_lines(told),
        html_message=Markup(html_message) if html_message and not _refused(exception) else None,  # noqa: S704
        clock=clock,
        marks=MARKS,
        spoken=SPOKEN,
        progress_url=_with_token(progress, xsrf),
        # The same server as the one that is followed: named or not, one's own or another person's.
        server_url=_with_token(progress.removesuffix("/progress"), xsrf),
        spawn_url=spawn,
        # In the form and not in its address, which ends up in histories and logs.
        xsrf=xsrf,
        again=_again(spawner),
        options=tuple(fields_of(spawner.user_options)),
        # Our own files, which hold no value of anybody: they are not to be escaped.
        style=_static("start.css"),
        script=_static("start.js"),
    )
    return Markup(html)  # noqa: S704


def heading(told: Mapping[str, Any], ended: bool) -> str:
    """Return what the page is about, for one start."""
    title, server = told["title"] or "your server", told["server"] or "default"
    return f'{title} for "{server}" did not start' if ended else f'Starting {title} for "{server}"'


def beside_the_lines(told: Mapping[str, Any]) -> list[str]:
    """Return what was tried and no line of the story says already."""
    return [words for words in told["tried"] if not any(words in line["words"] for line in told["lines"])]


def clock(seconds: float) -> str:
    """Return a time that has passed: ``"0:06"``, ``"1:12"``, ``"1:02:03"``."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def fields_of(options: object) -> Iterable[tuple[str, str]]:
    """Yield the form fields that ask for the same again; what a form cannot say is left out."""
    if not isinstance(options, Mapping):
        return
    for name, given in options.items():
        for value in given if isinstance(given, list | tuple) else (given,):
            if isinstance(value, str | int | float):
                yield str(name), str(value).lower() if isinstance(value, bool) else str(value)


def _again(spawner: Any) -> str:
    """Return what the button says that asks for the same again: a fallback may have started something else."""
    options = spawner.user_options
    asked = options.get("profile") if isinstance(options, Mapping) else None
    offer = spawner.offers.by_id.get(asked) if isinstance(asked, str) else None
    return f"Try {offer.profile.display_name} again" if offer else "Try again"


def _failure(spawner: Any, exception: BaseException | None, message: str | None) -> dict[str, Any]:
    """Return what is told of a start that failed; its story only if it had begun."""
    told = {**_NOTHING, "server": spawner.name}
    story = spawner.start_data()
    begun = not _refused(exception) or bool(getattr(exception, "reference", ""))
    if begun and not story.get("ready"):
        told |= story
    told["refusal"] = told["refusal"] or _refusal(spawner, exception, message)
    told["alternatives"] = told["alternatives"] or _alternatives(exception)
    return told


def _refused(exception: BaseException | None) -> Any:
    return getattr(exception, "refusal", None)


def _refusal(spawner: Any, exception: BaseException | None, message: str | None) -> Mapping[str, str]:
    refusal = _refused(exception)
    if refusal is None:
        # What JupyterHub passes on is meant for the user; an exception's own text is not.
        return {"reason": "", "message": message or UNEXPECTED, "reference": spawner.reference}
    # A refusal without a reference of its own came before the start, so the spawner's is that of an earlier one.
    own = getattr(exception, "reference", "")
    return {"reason": refusal.reason.value, "message": refusal.message, "reference": own}


def _alternatives(exception: BaseException | None) -> tuple[Mapping[str, Any], ...]:
    return tuple(
        {"profile": one.profile_id, "title": one.title, "words": one.words, "usd_per_hour": one.usd_per_hour}
        for one in getattr(exception, "alternatives", ())
    )


def _with_token(url: str, xsrf: str) -> str:
    return f"{url}?{urlencode({'_xsrf': xsrf})}"


@cache
def _template() -> Any:
    return Environment(autoescape=True, loader=PackageLoader("gpu_launcher.hub")).get_template("start_page.html")


@cache
def _static(name: str) -> Markup:
    return Markup(files("gpu_launcher.hub").joinpath("static", name).read_text(encoding="utf-8"))  # noqa: S704
