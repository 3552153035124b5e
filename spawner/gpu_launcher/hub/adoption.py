"""Starts that outlive the hub: a restarted hub goes on with them, or says that it cannot."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from datetime import UTC
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import jupyterhub
from jupyterhub.objects import Server

from gpu_launcher.cluster.parse import pod_view
from gpu_launcher.domain.outcomes import Refusal, RefusalReason
from gpu_launcher.domain.plan import PodPlan
from gpu_launcher.domain.profile import Capacity
from gpu_launcher.domain.stage import StartOutcome
from gpu_launcher.domain.views import PodView
from gpu_launcher.explain.story import Story, begin, dump_story, finish, load_story
from gpu_launcher.hub.background import in_background
from gpu_launcher.hub.records import metrics_of
from gpu_launcher.hub.refusal import StartRefused
from gpu_launcher.hub.start import Start, delete_pod
from gpu_launcher.hub.state import PLAN, load_plan
from gpu_launcher.hub.watched import WatchedSpawner
from gpu_launcher.planning.placement import CAPACITY_LABEL, POOL_LABEL, PROFILE_LABEL

STORY = "gpu-launcher/story"
"""The start's story when its pod was created: clock, attempts, what was tried."""

_LOOK_S = 0.05
_PREFIX = "gpu-launcher/"
_KEPT = "gpu_launcher_story"
# A write of the database holds up every other start for some milliseconds.
_KEEP_EVERY_S = 5.0
# A create that was in flight when the hub died can arrive this much later: what the API server gives a request.
_LATE_POD_S = 60.0
_LATE_LOOK_S = 1.0


class AdoptedStarts(WatchedSpawner):
    """KubeSpawner whose pending starts survive a restart of the hub.

    A restarted hub asks every server of its database: ``poll``, ``get_url``, then whether it answers. It looks after
    its routes when the last of them has answered, so a start that goes on for minutes must not be waited for: its check
    succeeds at once, and the start is pending again as if the hub had never been away. Nothing here may raise into that
    check, which would end the hub.
    """

    start_timeout: int
    _spawn_future: asyncio.Future[Any] | None
    _server: Any
    _kept: Story | None = None
    _kept_at = 0.0

    async def poll(self) -> int | None:
        """Return what KubeSpawner does; a start whose pod a restarted hub does not find ends with that reason."""
        status: int | None = await super().poll()
        pod = self._pod()
        if pod is not None and pod.ended:
            # KubeSpawner looks at the containers only, and those of a pod that was evicted may be as they were.
            status = status if status is not None else 1
            if self.delete_stopped_pods:
                await self.stop(now=True)
        if status is not None and self._check_pending:
            if self._ran:
                self._lost(status)
            elif self.server and not self.server.ip:
                self._end_by_restart()
        return status

    async def poll_and_notify(self) -> int | None:
        """Return what ``poll`` does, and let the hub know of a server that is gone; it is counted, if it had run."""
        ran, plan = self._ran, self.plan
        status: int | None = await super().poll_and_notify()
        if ran:
            self._lost(status, plan)
        return status

    @property
    def _ran(self) -> bool:
        """Whether the server had started and nobody stopped it: the plan is saved at the one, removed at the other."""
        return load_plan((self.orm_spawner.state or {}).get(PLAN)) is not None

    def _lost(self, status: int | None, plan: PodPlan | None = None) -> None:
        # A user may shut a server down from within, which ends it with 0.
        if status:
            plan = plan or self.plan
            self.log.warning("server lost server=%r status=%s", self._log_name, status)
            metrics_of(self).pod_lost(plan.profile_id if plan else "")

    async def get_url(self) -> str:
        """Return the server's URL as the database has it."""
        stored: str = self.server.url
        if self._check_pending:
            try:
                self._adopt()
            except Exception:
                self.log.exception("start not adopted server=%r", self._log_name)
        return stored

    def noted(self, pod: Any) -> Any:
        """Return the pod with the story so far, from which a restarted hub goes on."""
        if self.story is not None:
            pod.metadata.annotations = {**(pod.metadata.annotations or {}), STORY: dump_story(self.story)}
        return pod

    def tell_time(self) -> None:
        """Tell how much is left, and keep the story where a hub that comes after this one finds it."""
        super().tell_time()
        story, now = self.story, time.time()
        if story is None or story is self._kept or now - max(self._kept_at, story.began_at) < _KEEP_EVERY_S:
            return
        self._kept, self._kept_at = story, now
        # The hub replaces the state when the start ends, either way.
        self.orm_spawner.state = {**(self.orm_spawner.state or {}), _KEPT: dump_story(story)}
        self.user.db.commit()

    # A start that goes on.

    def _adopt(self) -> None:
        """Go on with the pod's start, if there is one that had not ended when the hub did."""
        pod, story = self._begun()
        if pod is None or story is None or self._ran:
            return
        kept = self._kept_story()
        if kept is not None and (kept.began_at, kept.attempt) == (story.began_at, story.attempt):
            story = kept
        self.plan = _plan_of(pod, self.start_timeout)
        self.start_timeout = self.profile.start_timeout_s if self.profile else self.start_timeout
        self._server = _Starting(orm_server=self.server.orm_server)
        self._spawn_pending = True
        self._spawn_future = asyncio.ensure_future(self._go_on(story, pod.uid))
        self._spawn_future.add_done_callback(self._adoption_ended)
        self.log.info("start adopted server=%r began_at=%.0f attempt=%d", self._log_name, story.began_at, story.attempt)

    def _kept_story(self) -> Story | None:
        return load_story((self.orm_spawner.state or {}).get(_KEPT))

    def _begun(self) -> tuple[PodView | None, Story | None]:
        pod = self._pod()
        return pod, load_story(pod.annotations.get(STORY)) if pod else None

    def _pod(self) -> PodView | None:
        return pod_view(self.pod_reflector.pods.get(f"{self.namespace}/{self.pod_name}"))

    async def _go_on(self, story: Story, uid: str) -> None:
        """Finish the start as the hub would have."""
        while self._check_pending:  # noqa: ASYNC110 - it is the hub's, and a plain attribute
            await asyncio.sleep(_LOOK_S)
        # A hub polls servers, not starts.
        self.stop_polling()
        try:
            await self._serve(await self._run(Start(self, await self.watch_cluster(), story, adopted=uid)))
        except Exception:
            try:
                await self.user.stop(self.name)
            except Exception:
                self.log.exception("adopted start not cleaned up server=%r", self._log_name)
            raise

    async def _serve(self, url: str) -> None:
        """Let the hub know the server as after every start, its route included."""
        self._server = None
        parts, server = urlsplit(url), self.server
        server.proto, server.ip = parts.scheme, parts.hostname
        server.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.orm_spawner.state = self.get_state()
        self.user.db.commit()
        await self.user.settings["proxy"].add_user(self.user, self.name)
        self.start_polling()

    def _adoption_ended(self, future: asyncio.Future[Any]) -> None:
        self._spawn_pending = False
        error = None if future.cancelled() else future.exception()
        if error is None:
            self._spawn_future = None
        elif not isinstance(error, StartRefused):
            self.log.error("adopted start failed server=%r", self._log_name, exc_info=error)

    # A start that cannot go on.

    def _end_by_restart(self) -> None:
        """Make the hub show that the start ended; whatever comes of it later is taken away."""
        refused = StartRefused(
            Refusal(
                RefusalReason.HUB_RESTARTED,
                "The hub restarted while this server was being started. Nothing is lost: start it again.",
            )
        )
        self.reference = refused.reference = secrets.token_hex(3)
        self.log.warning(
            "start refused server=%r reason=%s reference=%s", self._log_name, refused.refusal.reason, self.reference
        )
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._spawn_future = future
        future.set_exception(refused)
        # Read once, or asyncio logs that nobody did.
        future.exception()
        in_background(self._late_pod(time.time()))
        self._ended(self._lost_story(), StartOutcome.LOST, refused.refusal.reason)

    def _lost_story(self) -> Story:
        """What the hub's database still says of a start whose pod is not there."""
        if kept := self._kept_story():
            return finish(kept, time.time(), failed=True)
        options = self.orm_spawner.user_options
        asked = options.get("profile") if isinstance(options, Mapping) else None
        offer = self.offers.by_id.get(asked) if isinstance(asked, str) else None
        profile = offer.profile if offer else None
        now, started = time.time(), self.orm_spawner.started
        story = begin(
            profile.display_name if profile else "",
            self.name,
            started.replace(tzinfo=UTC).timestamp() if started else now,
            profile_id=profile.id if profile else "",
        )
        return finish(story, now, failed=True)

    async def _late_pod(self, restarted_at: float) -> None:
        """Delete the pod that the hub before this one had asked for, should it come after all."""
        until = time.monotonic() + _LATE_POD_S
        while time.monotonic() < until:
            pod, story = self._begun()
            if pod is not None and story is not None and story.began_at < restarted_at:
                self.log.info("late pod deleted server=%r", self._log_name)
                await delete_pod(self, pod.name, pod.uid)
                return
            await asyncio.sleep(_LATE_LOOK_S)


class _Starting(Server):
    """The server of a start that goes on: for the hub's check at its own start it is as good as up."""

    async def wait_up(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(headers={"X-JupyterHub-Version": jupyterhub.__version__})


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
        labels={CAPACITY_LABEL: Capacity.ON_DEMAND.value, **ours(pod.labels)},
        annotations={key: value for key, value in ours(pod.annotations).items() if key != STORY},
    )
