"""The hub's own eyes on the cluster: shared by all starts, and awake when something changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from gpu_launcher.cluster.api import KubeApi, Raw
from gpu_launcher.cluster.informer import Informer
from gpu_launcher.cluster.parse import event_view, node_claim_view, node_pool_view, node_view, pod_view, volume_views
from gpu_launcher.cluster.paths import core, group
from gpu_launcher.cluster.state import state_of
from gpu_launcher.cluster.viewed import STALE_S, Viewed
from gpu_launcher.domain.pool_state import PublishedState
from gpu_launcher.domain.start import Shortage
from gpu_launcher.domain.views import EventView, NodeClaimView, NodePoolView, NodeView, PodView, VolumeView
from gpu_launcher.explain.shortage import Shortages

# Hundreds of starts may wait at once and a new node changes several times a second: one look at it is enough for all.
# A look costs up to a millisecond, so the pause grows with how many look.
_COALESCE_S, _COALESCE_EACH_S = 0.1, 0.004
_EVENTS_KEPT = 40
_EVENT_S = 1.0
# A first start does not wait longer for facts that may never come, such as those that the hub may not read.
_FIRST_LOOK_S = 3.0


class ClusterWatch:
    """Everything that the hub can see of pods, machines, volumes and published state. Lives as long as the hub."""

    _known: ClassVar[dict[tuple[int, str | None, str, str], ClusterWatch]] = {}

    def __init__(self, api: KubeApi, namespace: str | None, selector: str, state: tuple[str, str]) -> None:
        self.pods: Viewed[PodView] = Viewed(
            api, core("pods", namespace=namespace), pod_view, self._pod_changed, labelSelector=selector
        )
        self._pod_events: Viewed[EventView] = Viewed(
            api,
            core("events", namespace=namespace),
            event_view,
            self._event_seen,
            fieldSelector="involvedObject.kind=Pod",
        )
        self.nodes: Viewed[NodeView] = Viewed(api, core("nodes"), node_view, self._cluster_changed)
        self.claims: Viewed[NodeClaimView] = Viewed(
            api, group("karpenter.sh/v1", "nodeclaims"), node_claim_view, self._claim_changed
        )
        self.node_pools: Viewed[NodePoolView] = Viewed(
            api, group("karpenter.sh/v1", "nodepools"), node_pool_view, self._cluster_changed
        )
        # Karpenter's events about NodeClaims land in `default`: they belong to no namespace themselves.
        self._claim_events: Viewed[EventView] = Viewed(
            api,
            core("events", namespace="default"),
            event_view,
            self._claim_event_seen,
            fieldSelector="involvedObject.kind=NodeClaim",
        )
        self._pvcs = Informer(api, core("persistentvolumeclaims", namespace=namespace))
        self._pvs = Informer(api, core("persistentvolumes"))
        self._attachments = Informer(api, group("storage.k8s.io/v1", "volumeattachments"))
        self._state = Informer(api, core("configmaps", namespace=state[0]), fieldSelector=f"metadata.name={state[1]}")
        self._state.subscribe(self._state_changed)
        for informer in (self._pvcs, self._pvs, self._attachments):
            informer.subscribe(self._cluster_changed)
        self._published: PublishedState | None = None
        self._shortages = Shortages()
        self._events: dict[str, dict[tuple[str, str], EventView]] = {}
        self._waiting: dict[tuple[str, str], set[asyncio.Event]] = {}
        self._coalescing = self._looked = False
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def of(cls, namespace: str | None, selector: str, state: tuple[str, str]) -> ClusterWatch:
        """Return the watch of this process for a namespace (None: all), begun on first use.

        ``selector`` chooses the pods, ``state`` is the namespace and name of the controller's ConfigMap.
        """
        key = (id(asyncio.get_running_loop()), namespace, selector, "/".join(state))
        found = cls._known.get(key)
        if found is None:
            found = cls._known[key] = cls(await KubeApi.connect(), namespace, selector, state)
            found._begin()
        await found._first_look()
        return found

    def _begin(self) -> None:
        informers = [
            viewed.informer
            for viewed in (
                self.pods,
                self._pod_events,
                self.nodes,
                self.claims,
                self.node_pools,
                self._claim_events,
            )
        ]
        informers += [self._pvcs, self._pvs, self._attachments, self._state]
        self._tasks = [asyncio.create_task(informer.run()) for informer in informers]

    def close(self) -> None:
        """Stop looking."""
        for task in self._tasks:
            task.cancel()

    async def _first_look(self) -> None:
        needed = [viewed.informer for viewed in (self.pods, self.nodes, self.claims, self.node_pools)] + [self._state]
        if self._looked or all(informer.synced.is_set() for informer in needed):
            return
        waiting = [asyncio.ensure_future(informer.synced.wait()) for informer in needed]
        try:
            await asyncio.wait(waiting, timeout=_FIRST_LOOK_S)
        finally:
            for one in waiting:
                one.cancel()
        self._looked = True

    # What is known.

    def events_of(self, uid: str) -> tuple[EventView, ...]:
        """Return the last events of a pod, oldest first."""
        return tuple(sorted(self._events.get(uid, {}).values(), key=lambda event: event.at or 0.0))

    def shortages(self, now: float) -> tuple[Shortage, ...]:
        """Return what the cloud did not give lately, oldest first."""
        return self._shortages.all(now)

    def volumes_of(self, pod: PodView) -> tuple[VolumeView, ...] | None:
        """Return the pod's volumes; None if volumes cannot be read."""
        if not pod.claims:
            return ()
        if any(not _fresh(informer) for informer in (self._pvcs, self._pvs, self._attachments)):
            return None
        mounted = [
            raw for (space, name), raw in self._pvcs.items.items() if space == pod.namespace and name in pod.claims
        ]
        bound = {str((raw.get("spec") or {}).get("volumeName") or "") for raw in mounted}
        volumes = [raw for (_, name), raw in self._pvs.items.items() if name in bound]
        return volume_views(mounted, volumes, list(self._attachments.items.values()))

    @property
    def published(self) -> PublishedState | None:
        """What the controller published last; None for nothing. Its age is the reader's to judge."""
        return self._published

    @property
    def closing(self) -> bool:
        """Whether the hub is on its way out: it cancels everything, and these as well, which nothing else does."""
        return any(task.cancelling() for task in self._tasks)

    # Waking up.

    @property
    def waiting(self) -> int:
        """How many starts wait at this moment."""
        return len(self._waiting)

    @contextmanager
    def waiter(self, namespace: str, name: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the pod of that name, or something of the whole cluster, has changed."""
        woken = asyncio.Event()
        waiting = self._waiting.setdefault((namespace, name), set())
        waiting.add(woken)
        try:
            yield woken
        finally:
            waiting.discard(woken)
            if not waiting:
                self._waiting.pop((namespace, name), None)

    def _pod_changed(self, kind: str, pod: PodView) -> None:
        if kind == "DELETED":
            self._events.pop(pod.uid, None)
        self._wake(pod.namespace, pod.name)

    def _event_seen(self, kind: str, event: EventView) -> None:
        about = self._events.setdefault(event.uid, {})
        about.pop((event.reason, event.message), None)
        if kind != "DELETED":
            about[event.reason, event.message] = event
        if len(about) > _EVENTS_KEPT:
            del about[next(iter(about))]
        if not about:
            del self._events[event.uid]

    def _claim_changed(self, kind: str, claim: NodeClaimView) -> None:
        if kind == "DELETED" or claim.deleting:
            # Why it ends is in its event, which comes by another watch: a moment too early, and quota is a shortage.
            loop, now = asyncio.get_running_loop(), time.time()
            loop.call_later(_EVENT_S, self._claim_seen, kind, claim, now)
        else:
            self._claim_seen(kind, claim, time.time())

    def _claim_seen(self, kind: str, claim: NodeClaimView, now: float) -> None:
        self._shortages = self._shortages.seen_claim(kind, claim, now)
        self._cluster_changed()

    def _claim_event_seen(self, kind: str, event: EventView) -> None:
        if kind != "DELETED":
            self._shortages = self._shortages.seen_event(event)
            self._cluster_changed()

    def _state_changed(self, kind: str, raw: Raw) -> None:
        self._published = None if kind == "DELETED" else state_of(raw)

    def _cluster_changed(self, *_: Any) -> None:
        if self._coalescing or not self._waiting:
            return
        self._coalescing = True
        asyncio.get_running_loop().call_later(_COALESCE_S + _COALESCE_EACH_S * len(self._waiting), self._wake_all)

    def _wake_all(self) -> None:
        self._coalescing = False
        for key, waiting in self._waiting.items():
            pod = self.pods.get(*key)
            # Where a pod has its machine and no disk to wait for, it tells of itself what there is to know.
            if pod is None or not pod.node or (pod.claims and pod.phase != "Running"):
                for woken in waiting:
                    woken.set()

    def _wake(self, namespace: str, name: str) -> None:
        for woken in self._waiting.get((namespace, name), ()):
            woken.set()


def _fresh(informer: Informer) -> bool:
    age = informer.age()
    return age is not None and age <= STALE_S
