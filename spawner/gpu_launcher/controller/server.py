"""The controller's port: whether it lives, its metrics, and the hub's records of starts."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

# A record of a start with every stage is 2 KiB.
_LARGEST = 65_536


class Server:
    """Answers ``/healthz``, ``/readyz``, ``/metrics`` and ``POST /api/v1/starts``.

    *alive* and *ready* say what their paths answer. *accept* gets the parsed JSON of a start's record and returns
    whether it was one; without *token* nobody may post.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        alive: Callable[[], bool],
        ready: Callable[[], bool],
        accept: Callable[[object], bool],
        token: str = "",
    ) -> None:
        self._registry = registry
        self._alive = alive
        self._ready = ready
        self._accept = accept
        self._token = token.encode()

    def application(self) -> web.Application:
        """Return the routes."""
        application = web.Application(client_max_size=_LARGEST)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_post("/api/v1/starts", self._starts)
        return application

    async def _healthz(self, _: web.Request) -> web.Response:
        return _plain(self._alive(), "ok", "no look at the cluster for too long")

    async def _readyz(self, _: web.Request) -> web.Response:
        return _plain(self._ready(), "ok", "the state is not published")

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _starts(self, request: web.Request) -> web.Response:
        if not self._known(request.headers.get("Authorization", "")):
            return web.Response(status=403, text="the shared secret is missing or wrong\n")
        try:
            record = json.loads(await request.read())
        except (ValueError, RecursionError):
            return web.Response(status=400, text="the body is no JSON\n")
        if not self._accept(record):
            return web.Response(status=400, text="the body is no record of a start\n")
        return web.Response(status=204)

    def _known(self, header: str) -> bool:
        scheme, _, given = header.partition(" ")
        # Compared even where nothing can match, so that the time says nothing.
        same = hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token)
        return same and bool(self._token) and scheme.lower() == "bearer"


def _plain(holds: bool, yes: str, no: str) -> web.Response:
    return web.Response(status=200 if holds else 503, text=f"{yes if holds else no}\n")
