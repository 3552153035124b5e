"""Pages of a start without a hub: JupyterHub's own templates around ours, and a small server that plays a start."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

from aiohttp import web
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader
from jupyterhub._data import DATA_FILES_PATH

from gpu_launcher.hub.pages import TEMPLATES, StartPages

HUB = Path(DATA_FILES_PATH)
TOKEN = "2|token"

ALTERNATIVE = {"profile": "l4", "title": "L4", "words": "ready now", "usd_per_hour": 0.81}


def line(stage: str, state: str, words: str, **more: Any) -> dict[str, Any]:
    """Return one line of a story."""
    return {"stage": stage, "state": state, "words": words, "detail": "", "seconds": None, "usual": "",
            "overrun": False} | more  # fmt: skip


LINES = (
    line("queued", "done", "Asked for a session", seconds=2.0),
    line("finding_capacity", "done", "Spot had none in us-west-2b, on-demand found", seconds=9.2),
    line("booting", "done", "Machine g5.xlarge started (us-west-2b)", seconds=41.0),
    line("gpu_driver", "now", "Waiting for the GPU driver", seconds=20.4, usual="usually 30 s"),
    line("pulling_image", "ahead", "Pulling the image (7.8 GB)", usual="usually 40 s"),
    line("server_answering", "ahead", "Server answers", usual="usually 4 s"),
)


def told(**more: Any) -> dict[str, Any]:
    """Return what a spawner tells of a start in its middle."""
    return {
        "title": "A10G", "server": "", "began_at": 1000.0, "now": 1072.0, "elapsed_s": 72.0, "ready": False,
        "eta": {"p50_s": 52.0, "p90_s": 88.0, "words": "about 50 s left (usually under 1:30)"},
        "price": {"usd_per_hour": 1.006, "words": "$1.01/h"}, "lines": list(LINES),
        "tried": ["Spot had none in us-west-2b"], "unknown": [], "alternatives": [ALTERNATIVE], "refusal": None,
    } | more  # fmt: skip


REFUSAL = {
    "reason": "capacity",
    "message": "No A10G could be had in us-west-2. Tried spot and on-demand in 3 zones for 4 min 10 s; AWS reports no "
    "capacity (since 10:14 UTC). Your files are safe.",
    "reference": "7f3a21",
}


def told_of_failure(**more: Any) -> dict[str, Any]:
    """Return what a spawner tells of a start that was refused in its middle."""
    lines = [*LINES[:1], line("launching", "failed", "Waiting for the cloud to give a machine", seconds=250.0)]
    ended = {"now": 1255.0, "elapsed_s": 252.0, "eta": None, "lines": lines, "refusal": REFUSAL}
    return told(**ended) | more


@dataclass
class Owner:
    """A user as templates and pages see one."""

    name: str = "ada"
    spawners: dict[str, Any] = field(default_factory=dict)
    spawner = SimpleNamespace(options_form="")

    @property
    def escaped_name(self) -> str:
        """The name in a URL."""
        return quote(self.name, safe="@~")

    @property
    def json_escaped_name(self) -> str:
        """The name in a script."""
        return json.dumps(self.name)[1:-1]

    def progress_url(self, name: str = "") -> str:
        """Where a start is followed."""
        server = f"servers/{quote(name, safe='@~')}" if name else "server"
        return f"/hub/api/users/{self.escaped_name}/{server}/progress"


class Starting(StartPages):
    """A spawner as the pages see one."""

    def __init__(self, data: Mapping[str, Any], *, user: str = "ada", name: str = "", options: Any = None) -> None:
        self.data, self.name, self.user_options = data, name, options or {"profile": "a10g", "spot": "true"}
        self.user = Owner(user, {name: self})
        self.hub = SimpleNamespace(base_url="/hub/")
        profile = SimpleNamespace(display_name="A10G")
        self.offers = SimpleNamespace(by_id={"a10g": SimpleNamespace(profile=profile)})
        self.reference = "c0ffee"
        self.pending, self.notice = "spawn", ""

    def start_data(self) -> Mapping[str, Any]:
        """Return what was given."""
        return self.data

    @property
    def _progress_url(self) -> str:
        return self.user.progress_url(self.name)


def _environment(site: Path | None) -> Environment:
    """Return templates as the hub finds them: the site's, then ours, then the hub's own."""
    base = str(HUB / "templates")
    paths = [*([str(site)] if site else []), str(TEMPLATES), base]
    loader = ChoiceLoader([PrefixLoader({"templates": FileSystemLoader([base])}, "/"), FileSystemLoader(paths)])
    return Environment(loader=loader, autoescape=True, enable_async=True)


async def hub_page(template: str, *, site: Path | None = None, **values: Any) -> str:
    """Return one of the hub's pages as its handlers render it."""
    return await _environment(site).get_template(template).render_async(
        base_url="/hub/", prefix="/", logout_url="/hub/logout", login_url="/hub/login", parsed_scopes={}, services=[],
        static_url=lambda path, **_: f"/hub/static/{path}", xsrf_token=TOKEN, xsrf=TOKEN, version_hash="", **values,
    )  # fmt: skip


async def pending(spawner: Any, **values: Any) -> str:
    """Return the page of a start that goes on."""
    url = f"{spawner._progress_url}?_xsrf={TOKEN}"
    return await hub_page("spawn_pending.html", user=spawner.user, spawner=spawner, progress_url=url, **values)


async def failed(spawner: Any, exception: BaseException | None = None, **values: Any) -> str:
    """Return the page of a start that failed."""
    messages = {
        "failed_message": getattr(exception, "jupyterhub_message", None),
        "failed_html_message": getattr(exception, "jupyterhub_html_message", None),
    }
    return await hub_page(
        "not_running.html", user=spawner.user, server_name=spawner.name, spawn_url="/hub/spawn/ada", failed=True,
        exception=exception, **messages | values,
    )  # fmt: skip


class Stage:
    """A hub that plays one start: what is put into ``events`` is sent, what is asked for is in ``asked``."""

    def __init__(self, html: str) -> None:
        self.html = html
        self.after = "<title>notebook</title>"
        """What the page is once the start has ended."""
        self.over = False
        self.away = False
        """Whether only the proxy is there."""
        self.events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.asked: list[tuple[str, str, Any]] = []
        self.stop_answers: list[int] = []
        self.url = ""

    def say(self, **event: Any) -> None:
        """Send one event to the page."""
        self.events.put_nowait(event)

    async def _page(self, _: web.Request) -> web.Response:
        if self.away:
            return web.Response(status=503)
        return web.Response(text=self.after if self.over else self.html, content_type="text/html")

    async def _progress(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(("GET", request.path, dict(request.query)))
        if self.away:
            return web.Response(status=503)
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        while (event := await self.events.get()) is not None:
            await answer.write(f"data: {json.dumps(event)}\n\n".encode())
        return answer

    async def _delete(self, request: web.Request) -> web.Response:
        self.asked.append(("DELETE", request.raw_path, dict(request.query)))
        return web.Response(status=self.stop_answers.pop(0) if self.stop_answers else 204)

    async def _spawn(self, request: web.Request) -> web.Response:
        self.asked.append(("POST", request.path_qs, dict(await request.post())))
        return web.Response(text="<title>started</title>", content_type="text/html")

    def application(self) -> web.Application:
        """Return the routes."""
        app = web.Application()
        app.router.add_get("/hub/spawn-pending/{rest:.*}", self._page)
        app.router.add_get("/hub/api/{rest:.*}/progress", self._progress)
        app.router.add_delete("/hub/api/{rest:.*}", self._delete)
        app.router.add_post("/hub/spawn/{rest:.*}", self._spawn)
        app.router.add_static("/hub/static/", HUB / "static")
        return app


@contextlib.asynccontextmanager
async def playing(html: str) -> AsyncIterator[Stage]:
    """Serve a page and its start on a free port."""
    stage = Stage(html)
    runner = web.AppRunner(stage.application(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    stage.url = f"http://{host}:{port}/hub/spawn-pending/ada"
    try:
        yield stage
    finally:
        stage.events.put_nowait(None)
        await runner.cleanup()
