"""Starts that outlive the hub: a restarted hub goes on with them, or says that it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from gpu_launcher.cluster.parse import pod_view
from gpu_launcher.domain.outcomes import Refusal, RefusalReason
from gpu_launcher.domain.plan import PodPlan
from gpu_launcher.explain.story import Story, dump_story, load_story
from gpu_launcher.hub.refusal import StartRefused
from gpu_launcher.hub.start import Start
from gpu_launcher.hub.watched import WatchedSpawner
from gpu_launcher.planning.placement import POOL_LABEL, PROFILE_LABEL

STORY = "gpu-launcher/story"
"""The start's story when its pod was created: clock, attempts, what was tried."""

_LOOK_S = 0.05
_PREFIX = "gpu-launcher/"


class AdoptedStarts(WatchedSpawner):
    """KubeSpawner whose pending starts survive a restart of the hub.

    While a restarted hub checks its servers, it asks ``poll``, then ``get_url``. An exception from the latter ends the
    hub, so there is none.
    """

    start_timeout: int
    _spawn_future: asyncio.Future[Any] | None

    async def poll(self) -> int | None:
        """Return None for a pod that is there, as KubeSpawner does; a start without one ends with its reason."""
        status: int | None = await super().poll()
        if status is not None and self._check_pending and self.server is not None and self.plan is None:
            self._end_with(
                Refusal(
                    RefusalReason.HUB_RESTARTED,
                    "The hub restarted before this server had a machine. Nothing is lost: start it again.",
                )
            )
        return status

    async def get_url(self) -> str:
        """Return the server's URL; for a start that goes on, once it ended."""
        stored: str = self.server.url
        if not self._check_pending:
            return stored
        try:
            return await self._adopted_url(stored)
        except Exception:
            self.log.exception("start not adopted server=%r", self._log_name)
            return stored

    def noted(self, pod: Any) -> Any:
        """Return the pod with the story so far, from which a restarted hub goes on."""
        if self.story is not None:
            pod.metadata.annotations = {**(pod.metadata.annotations or {}), STORY: dump_story(self.story)}
        return pod

    async def _adopted_url(self, stored: str) -> str:
        raw = self.pod_reflector.pods.get(f"{self.namespace}/{self.pod_name}")
        pod = pod_view(raw)
        story = load_story(pod.annotations.get(STORY)) if pod else None
        # The state is saved when a start has ended, so with a plan there is nothing to go on with.
        if raw is None or pod is None or story is None or self.plan is not None:
            return stored
        self.plan = _plan_of(pod, self.start_timeout)
        self.start_timeout = self.profile.start_timeout_s if self.profile else self.start_timeout
        self.log.info("start adopted server=%r began_at=%.0f attempt=%d", self._log_name, story.began_at, story.attempt)
        return await self._go_on(story, pod.uid, stored)

    async def _go_on(self, story: Story, uid: str, stored: str) -> str:
        # Progress, Stop and the failure page look at these two.
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._spawn_pending, self._spawn_future = True, future
        start = asyncio.ensure_future(self._run(Start(self, await self.watch_cluster(), story, adopted=uid)))
        either: list[asyncio.Future[Any]] = [start, future]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            await self._stopped(start)
        try:
            url = await start
        except StartRefused as refused:
            self._end_with(refused.refusal, refused)
            # The hub looks whether the server answers, finds that it does not, and cleans up.
            self.http_timeout = 1
            return stored
        except Exception as error:
            self._fail(error)
            self.http_timeout = 1
            return stored
        self._background(self._ready(future))
        return url

    async def _stopped(self, start: asyncio.Future[str]) -> None:
        """The user pressed Stop: the hub stops the server by itself, and must not look at it any more."""
        start.cancel()
        self._spawn_pending = self._check_pending = False
        await asyncio.gather(start, return_exceptions=True)
        await asyncio.Event().wait()

    async def _ready(self, future: asyncio.Future[None]) -> None:
        """Let the hub finish its check, then add the route, for which it would wait until every check is done."""
        while self._check_pending:  # noqa: ASYNC110 - it is the hub's, and a plain attribute
            await asyncio.sleep(_LOOK_S)
        if self.server is not None:
            await self.user.settings["proxy"].add_user(self.user, self.name)
            # As after every start: the next restart must know that this one ended.
            self.orm_spawner.state = self.get_state()
            self.user.db.commit()
        self._spawn_pending = False
        if not future.done():
            future.set_result(None)
        self._spawn_future = None

    def _end_with(self, refusal: Refusal, refused: StartRefused | None = None) -> None:
        self.log.warning("start ended by restart server=%r reason=%s", self._log_name, refusal.reason)
        self._fail(refused or StartRefused(refusal))

    def _fail(self, error: Exception) -> None:
        """Make the hub show the error as that of the last start."""
        future = self._spawn_future
        if future is None or future.done():
            future = self._spawn_future = asyncio.get_running_loop().create_future()
        future.set_exception(error)
        # Read once, or asyncio logs that nobody did.
        future.exception()
        self._spawn_pending = False

    def _background(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        _TASKS.add(task)
        task.add_done_callback(_TASKS.discard)


_TASKS: set[asyncio.Future[Any]] = set()


def _plan_of(pod: Any, start_timeout_s: int) -> PodPlan:
    """Return the plan that a pod was made from, as far as a running session needs it."""

    def ours(given: Mapping[str, str]) -> dict[str, str]:
        return {key: value for key, value in given.items() if key.startswith(_PREFIX)}

    return PodPlan(
        profile_id=pod.labels.get(PROFILE_LABEL, ""),
        pool_id=pod.labels.get(POOL_LABEL, ""),
        image=pod.images[0] if pod.images else None,
        resources=pod.requests,
        shm=0,
        start_timeout_s=start_timeout_s,
        labels=ours(pod.labels),
        annotations={key: value for key, value in ours(pod.annotations).items() if key != STORY},
    )
