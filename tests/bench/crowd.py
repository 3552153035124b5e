"""Many people on one hub: each start watched like a page does, and timed by clocks that are not the hub's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from gpu_launcher.cluster.api import KubeApi, Raw
from gpu_launcher.cluster.informer import Informer
from gpu_launcher.cluster.paths import core
from gpu_launcher.lab.hub import Hub
from provisioning import eventually

_WITHIN_S = 200.0


@dataclass(frozen=True)
class Timed:
    """One start, in Unix seconds: asked for, pod seen, pod seen Ready, server listens, the hub's ready event here."""

    asked: float
    created: float
    pod_ready: float
    listens: float
    ready: float

    @property
    def seconds(self) -> float:
        """From the click to the hub's "ready"."""
        return self.ready - self.asked

    @property
    def lag(self) -> float:
        """How long the hub took to say "ready" when everything was."""
        return self.ready - max(self.pod_ready, self.listens)


@dataclass
class Crowd:
    """The users of one hub. ``options`` are those of every start, None for a hub without."""

    name: str
    hub: Hub
    options: Any
    _session: aiohttp.ClientSession
    _created: dict[str, float] = field(default_factory=dict)
    _ready: dict[str, float] = field(default_factory=dict)
    _pods: dict[str, Raw] = field(default_factory=dict)
    _users: set[str] = field(default_factory=set)

    async def start(self, users: Sequence[str]) -> list[Timed]:
        """Start a server for each of these at the same moment, and wait until all are ready; a failed one is said."""
        await self.know(users)
        return [start for start in await asyncio.gather(*(self._start(user) for user in users)) if start]

    async def know(self, users: Sequence[str]) -> None:
        """Make the users that the hub does not have yet: a start is not timed with that."""
        if not self._users:
            self._users.update(user["name"] for user in await self._call("users?limit=1000"))
        fresh = [user for user in users if user not in self._users]
        if fresh:
            await self._call("users", "POST", {"usernames": fresh})
            self._users.update(fresh)

    async def stop(self) -> None:
        """Stop every server, and wait until neither the hub nor the cluster has one."""
        await asyncio.gather(*(self._call(f"users/{user}/server", "DELETE") for user in sorted(self._pods)))

        async def empty() -> bool:
            return not self._pods and not await self._call("users?state=active&limit=1")

        await eventually(empty, _WITHIN_S, f"nothing is left on {self.name}")
        self._created.clear()
        self._ready.clear()

    def cpu_seconds(self) -> float:
        """Return the processor time that the hub's process has used so far."""
        pid = int(self.hub.log.with_suffix(".pid").read_text())
        with open(f"/proc/{pid}/stat") as file:
            used = file.read().rpartition(")")[2].split()
        return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")

    async def _start(self, user: str) -> Timed | None:
        asked = time.time()
        await self._call(f"users/{user}/server", "POST", self.options)
        url = f"{self.hub.url}/hub/api/users/{user}/server/progress"
        last: dict[str, Any] = {}
        async with asyncio.timeout(_WITHIN_S), self._session.get(url) as answer:
            async for line in answer.content:
                if line.startswith(b"data:"):
                    last = json.loads(line[5:])
        ready = time.time()
        if not last.get("ready"):
            print(f"{user} on {self.name} after {ready - asked:.1f} s: {last.get('message')}", flush=True)
            return None

        async def seen() -> bool:
            return user in self._ready

        await eventually(seen, 10, f"the pod of {user} is seen Ready")
        return Timed(asked, self._created[user], self._ready[user], await self._listens_since(user), ready)

    async def _listens_since(self, user: str) -> float:
        address = self._pods[user]["status"]["podIP"]
        async with self._session.get(f"http://{address}:8888/api") as answer:
            return float((await answer.json())["listens_since"])

    async def _call(self, path: str, method: str = "GET", body: Any = None) -> Any:
        async with self._session.request(method, f"{self.hub.url}/hub/api/{path}", json=body) as answer:
            text = await answer.text()
        assert answer.status < 400, f"{method} {path} on {self.name}: {answer.status} {text}"
        return json.loads(text) if text.strip() else None

    def _pod_changed(self, kind: str, pod: Raw) -> None:
        now, user = time.time(), (pod["metadata"].get("annotations") or {}).get("hub.jupyter.org/username", "")
        if kind == "DELETED":
            self._pods.pop(user, None)
            return
        self._pods[user] = pod
        self._created.setdefault(user, now)
        conditions = (pod.get("status") or {}).get("conditions") or ()
        if any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
            self._ready.setdefault(user, now)


@contextlib.asynccontextmanager
async def crowd(api: KubeApi, name: str, hub: Hub, options: Any = None) -> AsyncIterator[Crowd]:
    """A crowd for the length of a block."""
    headers = {"Authorization": f"token {hub.token}"}
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as session:
        people = Crowd(name, hub, options, session)
        sessions = core("pods", namespace=hub.namespace)
        async with Informer(api, sessions, labelSelector="component=singleuser-server") as pods:
            pods.subscribe(people._pod_changed)
            await pods.synced.wait()
            yield people
