"""Starts as a page sees them: the hub's REST API and its progress stream, with the time at which each word arrived."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from gpu_launcher.lab.hub import Hub, HubError
from provisioning import eventually


@dataclass(frozen=True)
class Told:
    """One event of a progress stream and when it arrived, in Unix seconds."""

    at: float
    event: Mapping[str, Any]

    @property
    def timeline(self) -> Mapping[str, Any]:
        """What the pending page shows; empty for the hub's own events."""
        return self.event.get("gpu_launcher") or {}

    @property
    def stage(self) -> str:
        """The stage that the start is in, or failed in; "" if the event does not say."""
        lines = self.timeline.get("lines") or ()
        return next((line["stage"] for line in lines if line["state"] in ("now", "failed")), "")

    @property
    def text(self) -> str:
        """All that a reader sees of this event."""
        shown = self.timeline
        words = [str(self.event.get("message") or "")]
        for line in shown.get("lines") or ():
            if line["state"] != "ahead":
                words += [line["words"], line.get("detail") or ""]
        words += [*(shown.get("tried") or ()), *(shown.get("unknown") or ())]
        words.append((shown.get("refusal") or {}).get("message", ""))
        return "\n".join(filter(None, words))

    @property
    def ended(self) -> bool:
        """Whether the start is over, one way or the other."""
        return bool(self.event.get("ready") or self.event.get("failed"))

    def says(self, pattern: str) -> bool:
        """Return whether a reader finds this, whatever the case of its letters."""
        return re.search(pattern, self.text, re.IGNORECASE) is not None


@dataclass(frozen=True)
class Refused:
    """How a start was refused: the closed reason, the user's words, the whole stream's last event."""

    reason: str
    message: str
    at: float


class StartStream:
    """The progress of one start, read in the background from its first event on."""

    def __init__(self, launcher: Launcher, user: str, server: str) -> None:
        self.user, self.server = user, server
        self.asked_at = time.time()
        self.told: list[Told] = []
        self._launcher = launcher
        self._more = asyncio.Condition()
        self._task = asyncio.create_task(self._read(), name=f"progress of {user}")

    async def _read(self) -> None:
        try:
            async for event in self._launcher.events(self.user, self.server):
                await self._tell(event)
        finally:
            async with self._more:
                self._more.notify_all()

    async def _tell(self, event: Mapping[str, Any]) -> None:
        async with self._more:
            self.told.append(Told(time.time(), event))
            self._more.notify_all()

    def first(self, holds: Callable[[Told], bool]) -> Told | None:
        """Return the first event so far for which this holds."""
        return next((told for told in self.told if holds(told)), None)

    async def until(self, holds: Callable[[Told], bool], within: float, what: str) -> Told:
        """Return the first event for which this holds, waiting for it; fails with the whole stream otherwise."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within), self._more:
                await self._more.wait_for(lambda: self.first(holds) is not None or self._task.done())
        found = self.first(holds)
        if found is None:
            problem = self._task.exception() if self._task.done() and not self._task.cancelled() else None
            over = "the stream ended" if self._task.done() else f"{within:g} s passed"
            raise AssertionError(f"{over} without {what} ({problem or 'no error'}); it told\n{self.transcript()}")
        return found

    async def stage(self, stage: str, within: float = 30) -> Told:
        """Wait for the start to be in a stage."""
        return await self.until(lambda told: told.stage == stage, within, f"stage {stage}")

    async def says(self, pattern: str, within: float = 30) -> Told:
        """Wait for words that a reader sees."""
        return await self.until(lambda told: told.says(pattern), within, f"the words {pattern!r}")

    async def ended(self, within: float = 60) -> Told:
        """Wait for the end of the start."""
        return await self.until(lambda told: told.ended, within, "an end")

    async def ready(self, within: float = 60) -> Told:
        """Wait for a server that is ready; fails if the start is refused."""
        end = await self.ended(within)
        assert end.event.get("ready"), f"{self.user} was to get a server; the stream told\n{self.transcript()}"
        return end

    async def refused(self, within: float = 60) -> Refused:
        """Wait for the refusal; fails if the start succeeds, or fails without a reason."""
        end = await self.ended(within)
        assert end.event.get("failed"), f"{self.user} was to be refused; the stream told\n{self.transcript()}"
        message = str(end.event.get("message") or "").removeprefix("Spawn failed: ")
        refusals = [told.timeline["refusal"] for told in self.told if told.timeline.get("refusal")]
        reason = refusals[-1]["reason"] if refusals else self._launcher.reason_in_log(self.user, self.server)
        return Refused(reason, message, end.at)

    async def close(self) -> None:
        """Stop reading; the start goes on."""
        self._task.cancel()
        await asyncio.wait({self._task})

    def transcript(self) -> str:
        """What was told, one event per line, seconds since the request first."""
        return "\n".join(
            f"  {told.at - self.asked_at:6.2f} s  {told.stage or '-':<16} {told.text!r}" for told in self.told
        )


class Launcher:
    """A person's, or many people's, way to a hub: users are made where needed, starts are streams."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._session: aiohttp.ClientSession | None = None
        self._known: set[str] = set()
        self.streams: list[StartStream] = []

    async def __aenter__(self) -> Self:
        # Hundreds of pages are open at once: no limit of the client's own may stand in the way.
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"token {self.hub.token}"},
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(stream.close() for stream in self.streams))
        if self._session is not None:
            await self._session.close()

    async def call(self, path: str, method: str = "GET", body: Any = None) -> tuple[int, Any]:
        """Return status and JSON of a REST call; a refusal is an answer, not an exception."""
        assert self._session is not None, "use the launcher as a context"
        async with self._session.request(method, f"{self.hub.url}/hub/api/{path}", json=body) as answer:
            text = await answer.text()
        with contextlib.suppress(ValueError):
            return answer.status, json.loads(text) if text.strip() else None
        return answer.status, text

    async def users(self, *names: str) -> None:
        """Make the users that are not there yet."""
        fresh = [name for name in names if name not in self._known]
        if fresh:
            await self.call("users", "POST", {"usernames": fresh})
            self._known.update(fresh)

    async def start(self, user: str, profile: str, server: str = "", **options: Any) -> StartStream:
        """Ask for a server and read its progress; fails only if the hub does not take the request."""
        await self.users(user)
        status, answer = await self.call(_server(user, server), "POST", {"profile": profile, **options})
        assert status in (201, 202), f"the hub did not take the start of {user}: {status} {answer}"
        return self.follow(user, server)

    def follow(self, user: str, server: str = "") -> StartStream:
        """Read the progress of a start that goes on already, as a page does that is opened again."""
        stream = StartStream(self, user, server)
        self.streams.append(stream)
        return stream

    async def events(self, user: str, server: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the events of a start until the hub closes the stream. Raises HubError where it has none."""
        assert self._session is not None, "use the launcher as a context"
        url = f"{self.hub.url}/hub/api/{_server(user, server)}/progress"
        async with self._session.get(url) as answer:
            if answer.status >= 400:
                raise HubError(answer.status, await answer.text())
            async for line in answer.content:
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])

    async def stop(self, user: str, server: str = "", within: float = 60) -> None:
        """Stop a server, or a start, and wait until the hub knows of none."""
        await self.call(_server(user, server), "DELETE")

        async def gone() -> bool:
            return server not in (await self.call(f"users/{user}"))[1].get("servers", {})

        await eventually(gone, within, f"the hub has no server of {user}")

    def reason_in_log(self, user: str, server: str) -> str:
        """Return the reason of the last refusal that the hub logged for this server, "" if there is none."""
        name = f"{user}:{server}" if server else user
        pattern = re.compile(rf"""server='?"?{re.escape(name)}'?"?\s.*?\breason=(\w+)""")
        found = pattern.findall(self.hub.log.read_text())
        return str(found[-1]) if found else ""


def _server(user: str, server: str) -> str:
    return f"users/{user}/servers/{server}" if server else f"users/{user}/server"
