"""A watched list that knows how fresh it is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from gpu_launcher.cluster.api import KubeApi, Raw
from gpu_launcher.cluster.errors import Gone, KubeError

log = logging.getLogger(__name__)

Key = tuple[str, str]
Callback = Callable[[str, Raw], Awaitable[None] | None]

# Between two attempts after a failure or an empty stream: at most one reconnect a second, so that a server which
# closes every watch at once is not hammered; at most 30 s, so that a recovered server is noticed soon.
_BACKOFF_FIRST, _BACKOFF_LAST = 1.0, 30.0
_PAGE = 500


class Informer:
    """The objects at ``path``, kept current by list and watch.

    ``items`` maps (namespace, name) to the raw object; it is a cache and may be stale: ``age()`` says by how much.
    Callbacks run in order, get ("ADDED" | "MODIFIED" | "DELETED", object), and must not block; one that raises is
    logged, and misses that change only. An object that was replaced by one of the same name is DELETED, then ADDED.
    ``kept`` says what of an object stays in ``items``, its metadata at least; callbacks get all of it, except for an
    object that was deleted while nobody watched.
    """

    def __init__(self, api: KubeApi, path: str, **query: Any) -> None:
        self._api = api
        self._path = path
        self._query = query
        self._callbacks: list[Callback] = []
        self._task: asyncio.Task[None] | None = None
        self._fresh_at: float | None = None
        self.items: dict[Key, Raw] = {}
        self.kept: Callable[[Raw], Raw] = _whole
        self.synced = asyncio.Event()

    def subscribe(self, callback: Callback) -> None:
        """Call ``callback`` on every later change; objects already known are delivered by the next list."""
        self._callbacks.append(callback)

    def age(self) -> float | None:
        """Seconds since the server last proved this list current; None before the first list."""
        return None if self._fresh_at is None else time.monotonic() - self._fresh_at

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.run(), name=f"informer {self._path}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def run(self) -> None:
        """List and watch for ever; failures are logged once per change of cause and retried with back-off."""
        backoff = _BACKOFF_FIRST
        last_problem = ""
        while True:
            started = time.monotonic()
            try:
                version = await self._list()
                backoff = _BACKOFF_FIRST
                last_problem = ""
                while True:
                    watch_started = time.monotonic()
                    version = await self._watch(version)
                    if time.monotonic() - watch_started < _BACKOFF_FIRST:
                        await asyncio.sleep(_BACKOFF_FIRST)
            except Gone:
                pass
            except KubeError as error:
                problem = f"{error.status} {error.reason}"
                if problem != last_problem:
                    # The message names the verb and the resource that a role lacks.
                    log.warning("informer path=%s problem=%s: %s", self._path, problem, error.message)
                    last_problem = problem
                backoff = error.retry_after if error.retry_after is not None else min(backoff * 2, _BACKOFF_LAST)
            await asyncio.sleep(max(0.0, backoff - (time.monotonic() - started)) or _BACKOFF_FIRST)

    async def _list(self) -> str:
        present: set[Key] = set()
        query = dict(self._query, limit=_PAGE)
        while True:
            page = await self._api.get(self._path, **query)
            # Page by page: a large cluster's pods are never in memory all at once.
            for item in page.get("items") or []:
                present.add(_key(item))
                await self._listed(item)
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                break
            query["continue"] = metadata["continue"]
        for key in [key for key in self.items if key not in present]:
            await self._deliver("DELETED", self.items[key])
        self._mark_fresh()
        self.synced.set()
        return str(metadata.get("resourceVersion") or "")

    async def _listed(self, item: Raw) -> None:
        known = self.items.get(_key(item))
        if known is not None and _uid(known) != _uid(item):
            await self._deliver("DELETED", known)
            known = None
        if known is None:
            await self._deliver("ADDED", item)
        elif _version(known) != _version(item):
            await self._deliver("MODIFIED", item)

    async def _watch(self, version: str) -> str:
        async for kind, item in self._api.watch(self._path, resource_version=version, **self._query):
            self._mark_fresh()
            version = _version(item) or version
            if kind in ("ADDED", "MODIFIED", "DELETED"):
                await self._deliver(kind, item)
        self._mark_fresh()
        return version

    async def _deliver(self, kind: str, item: Raw) -> None:
        if kind == "DELETED":
            self.items.pop(_key(item), None)
        else:
            self.items[_key(item)] = self.kept(item)
        for callback in self._callbacks:
            try:
                result = callback(kind, item)
                if result is not None:
                    await result
            except Exception:
                log.exception("informer callback failed path=%s kind=%s object=%s", self._path, kind, _key(item))

    def _mark_fresh(self) -> None:
        self._fresh_at = time.monotonic()


def identity(item: Raw) -> Raw:
    """Return the least that ``Informer.kept`` may keep: the metadata by which changes are told apart."""
    metadata = item.get("metadata") or {}
    wanted = ("namespace", "name", "uid", "resourceVersion")
    return {"metadata": {name: metadata[name] for name in wanted if name in metadata}}


def _whole(item: Raw) -> Raw:
    return item


def _key(item: Raw) -> Key:
    metadata = item.get("metadata") or {}
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")


def _uid(item: Raw) -> str:
    return str((item.get("metadata") or {}).get("uid") or "")


def _version(item: Raw) -> str:
    return str((item.get("metadata") or {}).get("resourceVersion") or "")
