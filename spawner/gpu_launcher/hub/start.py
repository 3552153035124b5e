"""One start from the decision to the answering server: watched, told, and ended with a reason if it must end."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from aiohttp import ClientError
from jupyterhub.utils import make_ssl_context
from kubernetes_asyncio.client import V1DeleteOptions, V1Preconditions
from kubernetes_asyncio.client.rest import ApiException

from gpu_launcher.domain.outcomes import Refusal, RefusalReason
from gpu_launcher.domain.profile import Capacity
from gpu_launcher.domain.stage import Stage
from gpu_launcher.domain.start import OwnServer, StartSnapshot
from gpu_launcher.domain.views import PodView
from gpu_launcher.explain.diagnosis import Diagnosis, diagnose
from gpu_launcher.explain.story import Story, finish, next_attempt, tell
from gpu_launcher.hub.background import in_background
from gpu_launcher.hub.readiness import answered
from gpu_launcher.hub.refusal import StartRefused
from gpu_launcher.hub.watch import ClusterWatch
from gpu_launcher.planning.placement import CAPACITY_LABEL, USER_LABEL

if TYPE_CHECKING:
    from gpu_launcher.hub.watched import WatchedSpawner

# Bounds pass without any event: a start is looked at this often at least, less often where hundreds wait.
_LOOK_S, _LOOK_EACH_S = 1.0, 0.01
# The hub counts from a moment earlier, and its own timeout has no reason to give.
_MARGIN_S = 5.0
_DELETE_TRIES = 20


class Start:
    """A start of one server. ``url()`` runs it; ``story`` is what was seen so far."""

    def __init__(self, spawner: WatchedSpawner, watch: ClusterWatch, story: Story, *, adopted: str = "") -> None:
        """*adopted* is the uid of a pod that an earlier hub process created; "" creates one."""
        self._spawner = spawner
        self._watch = watch
        self._adopted = adopted
        self._key = (spawner.namespace, spawner.pod_name)
        allowed = max(spawner.start_timeout - _MARGIN_S, spawner.start_timeout * 0.8)
        self._deadline = time.monotonic() + allowed - max(0.0, time.time() - story.began_at)
        self._asked_at = story.began_at
        self._answered = False
        self._uid = ""
        self._moved = False
        self._node = ""
        self.diagnosis: Diagnosis | None = None
        self.story = story

    async def url(self) -> str:
        """Return the URL of the server that answers. Raises StartRefused with a reason, or what hooks raised."""
        try:
            while True:
                try:
                    url = await self._attempt()
                    break
                except StartRefused as refused:
                    await self._next(refused)
        except BaseException as error:
            if self._watch.closing:
                # The hub ends, not the start: the next hub goes on with its pod.
                raise
            self._leave_nothing()
            refusal = error.refusal if isinstance(error, StartRefused) else None
            self._tell(finish(self.story, time.time(), refusal, failed=True))
            raise
        self._tell(finish(self.story, time.time()))
        return url

    def _tell(self, story: Story) -> None:
        if story is not self.story:
            self.story = story
            self._spawner.tell()

    async def _next(self, refused: StartRefused) -> None:
        """Prepare the next attempt; raises the refusal where there is none."""
        if time.monotonic() > self._deadline:
            raise refused
        # What the user agreed to is in the request, which an adopted start does not have.
        words = "" if self._adopted else self._elsewhere() or self._spawner.take_next_rung(refused.refusal)
        if not words:
            raise refused
        await self._delete(self._spawner.pod_request)
        now = self._asked_at = time.time()
        plan, profile = self._spawner.plan, self._spawner.profile
        self._tell(
            next_attempt(
                self.story,
                words,
                now,
                pool_id=plan.pool_id if plan else "",
                profile=(profile.id, profile.display_name) if profile else None,
            )
        )

    def _elsewhere(self) -> str:
        """Turn away from a node that did not accept the pod, once; "" if that is not what happened."""
        found = self.diagnosis
        if found is None or not found.retry_elsewhere or self._moved:
            return ""
        self._moved = True
        self._spawner.avoid_node(found.node)
        return "The machine did not accept the session; trying another one"

    # One attempt.

    async def _attempt(self) -> str:
        spawner = self._spawner
        self._uid, self._node, self._answered = self._adopted, "", False
        spawner.pod_request, spawner.hooks_done = None, bool(self._adopted)
        base = asyncio.ensure_future(_forever() if self._adopted else spawner.create_and_wait())
        dial: asyncio.Task[None] | None = None
        try:
            with self._watch.waiter(*self._key) as woken:
                while True:
                    woken.clear()
                    if base.done():
                        base.result()
                    runs = self._runs(base)
                    if dial is None and runs:
                        dial = asyncio.create_task(answered(*self._address()))
                    self._answered = runs and dial is not None and dial.done()
                    if self._answered and (spawner.hooks_done or base.done()):
                        self._look()
                        return spawner.adopt_url(self._raw())
                    self._look()
                    await self._sleep(woken, base, dial)
        finally:
            for task in (base, dial):
                if task is not None:
                    task.cancel()
            await asyncio.gather(*(task for task in (base, dial) if task), return_exceptions=True)

    async def _sleep(self, woken: asyncio.Event, base: asyncio.Future[Any], dial: asyncio.Task[None] | None) -> None:
        waiting = asyncio.ensure_future(woken.wait())
        others = [task for task in (base, dial) if task is not None and not task.done()]
        pause = _LOOK_S + _LOOK_EACH_S * self._watch.waiting
        try:
            await asyncio.wait([waiting, *others], timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()

    def _look(self) -> None:
        """Diagnose; tell what changed; raise StartRefused for what cannot succeed."""
        if self._spawner.stopping:
            # A hook failed, and KubeSpawner takes the pod away before it says so.
            return
        now = time.time()
        found = self.diagnosis = diagnose(self._snapshot(now), self._spawner.offers.settings.starts)
        self._tell(tell(self.story, found, now))
        self._spawner.tell_time()
        if self._answered:
            return
        if found.refusal:
            raise StartRefused(found.refusal)
        if time.monotonic() > self._deadline:
            raise StartRefused(_too_late(found))

    def _snapshot(self, now: float) -> StartSnapshot:
        spawner, watch = self._spawner, self._watch
        pod = self._pod()
        plan = spawner.plan
        pods = watch.pods.all()
        return StartSnapshot(
            now=now,
            asked_at=self._asked_at,
            capacity=Capacity(plan.labels[CAPACITY_LABEL]) if plan else Capacity.ON_DEMAND,
            gpus=plan.resources.gpus if plan else 0,
            pod=pod,
            pod_seen=bool(self._uid) and pods is not None,
            last_node=self._node,
            server_answered=self._answered,
            nodes=watch.nodes.all(),
            claims=watch.claims.all(),
            node_pools=watch.node_pools.all(),
            volumes=watch.volumes_of(pod) if pod else (),
            events=watch.events_of(pod.uid) if pod else (),
            shortages=watch.shortages(now),
            node_pods=pods,
            own_servers=_own_servers(pods or (), pod),
            ready_slots=spawner.ready_slots(),
        )

    def _pod(self) -> PodView | None:
        """Return this attempt's pod: one of an earlier attempt may still be going."""
        pod = self._watch.pods.get(*self._key)
        if pod is None or pod.uid != self._created():
            return None
        self._uid, self._node = pod.uid, pod.node or self._node
        return pod

    def _created(self) -> str:
        """The uid of this attempt's pod, "" before it exists."""
        return self._adopted or _uid_of(self._spawner.pod_request)

    def _runs(self, base: asyncio.Future[Any]) -> bool:
        """Whether the server's container runs; with our own watch blind, as far as KubeSpawner's tells."""
        pod = self._pod()
        if pod is None:
            return base.done() and self._watch.pods.all() is None
        return bool(pod.phase == "Running" and pod.ip and not pod.deleting and pod.containers)

    def _raw(self) -> Any:
        namespace, name = self._key
        found = self._watch.pods.informer.items.get(self._key)
        return found or self._spawner.pod_reflector.pods[f"{namespace}/{name}"]

    def _address(self) -> tuple[str, Any]:
        spawner = self._spawner
        settings = spawner.user.settings
        context = None
        if spawner.internal_ssl:
            context = make_ssl_context(
                settings.get("internal_ssl_key"),
                settings.get("internal_ssl_cert"),
                cafile=settings.get("internal_ssl_ca"),
            )
        base = spawner.server.base_url if spawner.server else "/"
        return f"{spawner.url_of(self._raw()).rstrip('/')}{base}api", context

    # The end.

    def _leave_nothing(self) -> None:
        """Delete the pod in the background: whoever cancelled the start does not wait, and may be gone."""
        in_background(self._delete(self._spawner.pod_request))

    async def _delete(self, request: asyncio.Future[Any] | None) -> None:
        """Delete the pod of this attempt, also one that the API server is still creating for *request*."""
        if request is not None:
            await asyncio.wait([request])
        uid = self._adopted or _uid_of(request)
        if uid:
            await delete_pod(self._spawner, self._key[1], uid)


async def delete_pod(spawner: Any, name: str, uid: str) -> None:
    """Delete a pod of the spawner's namespace; one of the same name that was created since is somebody else's."""
    options = V1DeleteOptions(grace_period_seconds=0, preconditions=V1Preconditions(uid=uid))
    for attempt in range(_DELETE_TRIES):
        try:
            await spawner.api.delete_namespaced_pod(name, spawner.namespace, body=options)
        except ApiException as error:
            if error.status in (404, 409):
                return
            if attempt == 0:
                spawner.log.warning("pod not deleted yet name=%s status=%s", name, error.status)
        except (OSError, TimeoutError, ClientError):
            pass
        else:
            return
        await asyncio.sleep(min(2.0**attempt, 30.0))
    spawner.log.error("pod left behind name=%s namespace=%s: delete it by hand", name, spawner.namespace)


def _uid_of(request: asyncio.Future[Any] | None) -> str:
    """The uid of the pod that a request created, "" if it did not, or did not yet."""
    if request is None or not request.done() or request.cancelled() or request.exception():
        return ""
    return str(request.result().metadata.uid)


async def _forever() -> None:
    await asyncio.Event().wait()


def _own_servers(pods: tuple[PodView, ...], pod: PodView | None) -> tuple[OwnServer, ...]:
    if pod is None or not pod.labels.get(USER_LABEL):
        return ()
    return tuple(
        OwnServer(other.annotations.get("hub.jupyter.org/servername", ""), other.node, other.claims)
        for other in pods
        if other.labels.get(USER_LABEL) == pod.labels[USER_LABEL] and other.uid != pod.uid and not other.ended
    )


def _too_late(found: Diagnosis) -> Refusal:
    """The refusal at the launcher's own deadline: at least what it was waiting for is known."""
    if found.stage is Stage.SERVER_ANSWERING:
        return Refusal(
            RefusalReason.NO_ANSWER,
            "The server was started on its machine and did not answer. Try again; if it happens again with this image, "
            "an administrator can look into the server's log.",
        )
    return Refusal(
        RefusalReason.DEADLINE,
        f"The start took longer than is allowed for this profile; the last thing it waited for: {found.words}. "
        "Try again, or pick another profile.",
    )
