"""KubeSpawner whose starts are watched, told as they go, and end with a reason."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator
from html import escape
from typing import Any, ClassVar

from traitlets import Unicode

from gpu_launcher.cluster.state import is_current
from gpu_launcher.domain.image_reference import normalised
from gpu_launcher.domain.outcomes import Refusal
from gpu_launcher.domain.plan import PodPlan
from gpu_launcher.domain.pool import SlotPool
from gpu_launcher.domain.pool_state import PublishedState
from gpu_launcher.domain.profile import Capacity, Image, Profile
from gpu_launcher.domain.stage import StartKind, StartOutcome
from gpu_launcher.domain.start import StartRecord
from gpu_launcher.domain.views import VolumeView
from gpu_launcher.explain.alternatives import Alternative
from gpu_launcher.explain.eta import Eta, Priors, course, priors, time_left, whole_start
from gpu_launcher.explain.history import History
from gpu_launcher.explain.prices import pool_price
from gpu_launcher.explain.story import Story, begin, stage_times
from gpu_launcher.explain.timeline import current_words, progress_percent, timeline
from gpu_launcher.explain.wait import cold_start
from gpu_launcher.hub.ending import EndedSessions
from gpu_launcher.hub.offers import Offers
from gpu_launcher.hub.pages import StartPages
from gpu_launcher.hub.refusal import StartRefused
from gpu_launcher.hub.start import Start
from gpu_launcher.hub.watch import ClusterWatch
from gpu_launcher.planning.placement import CAPACITY_LABEL

# An estimate that changes every second is read by nobody, and costs every start that waits.
_TIME_EVERY_S = 5.0


class WatchedSpawner(StartPages, EndedSessions):
    """KubeSpawner that knows at any moment what a start waits for, and returns as soon as its server answers."""

    state_config_map = Unicode(
        "gpu-launcher-state",
        config=True,
        help="""
        The ConfigMap in the hub's namespace that the controller publishes into.

        Another name where the chart's release is not called ``gpu-launcher``.
        """,
    )

    history: ClassVar[History] = History()
    """What this hub's own finished starts say about the next one."""

    plan: PodPlan | None = None
    """What was decided for the server that runs or starts; None for none, and for servers from before the launcher."""

    watch: ClusterWatch | None = None
    """What the hub sees of the cluster; None before the first start of this process."""

    start_under_way: Start | None = None
    """The start that runs, or the last one that ended; None before the first."""

    hooks_done = False
    """Whether a start has come to the point where KubeSpawner only waits for its pod."""

    stopping = False
    """Whether a pod of this server is being taken away, by whomever."""

    reference = ""
    """Six characters that a person can read out: on the page and in the log of the same start."""

    _told: tuple[dict[str, Any], ...] = ()
    _told_at = 0.0
    _first_eta: Eta | None = None
    _news: asyncio.Event

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._news = asyncio.Event()

    @property
    def offers(self) -> Offers:
        """What the settings offer; compiled once for all spawners."""
        raise NotImplementedError

    @property
    def profile(self) -> Profile | None:
        """The profile that the server runs or starts; None for none, and for one that is no longer offered."""
        offer = self.offers.by_id.get(self.plan.profile_id) if self.plan else None
        return offer.profile if offer else None

    @property
    def story(self) -> Story | None:
        """What is known of the start that runs or of the last one; None before the first."""
        return self.start_under_way.story if self.start_under_way else None

    @property
    def published(self) -> PublishedState | None:
        """What the controller says of the slot pools; None if it said nothing, or nothing lately."""
        state = self.watch.published if self.watch else None
        return state if state is not None and is_current(state, time.time()) else None

    def ready_slots(self) -> int | None:
        """Return how many ready slots there are for the server's pool and image; None if nobody knows."""
        state = self.published
        pool = state.pools.get(self.plan.pool_id) if state and self.plan else None
        if pool is None or self.plan is None:
            return None
        return pool.ready.get(normalised(self.plan.image) if self.plan.image else self.any_image(self.image), 0)

    def any_image(self, image: str) -> str:
        """Return "" where every machine has the hub's own *image*, so that any ready slot will do; else its name.

        The controller counts ready slots by the images that profiles list; of the hub's own it knows nothing.
        """
        nodes = [node for node in (self.watch.nodes.all() if self.watch else None) or () if node.node_pool]
        name = normalised(image)
        everywhere = all(any(name in names for names in node.images) for node in nodes)
        return "" if nodes and everywhere else name

    # The start.

    def _own_namespace(self) -> str:
        return os.environ.get("POD_NAMESPACE") or str(self.namespace)

    async def watch_cluster(self) -> ClusterWatch:
        """Return the hub's eyes on the cluster, opened on first use."""
        namespace = None if self.enable_user_namespaces else self.namespace
        selector = f"component={self.component_label}"
        self.watch = await ClusterWatch.of(namespace, selector, (self._own_namespace(), self.state_config_map))
        return self.watch

    async def _start(self) -> str:
        """Return the server's URL as soon as it answers. Raises StartRefused for what cannot succeed."""
        await self.load_user_options()
        watch = await self.watch_cluster()
        profile = self.profile
        kind = StartKind.WARM if self.ready_slots() else StartKind.UNKNOWN
        story = begin(
            profile.display_name if profile else "",
            self.name,
            time.time(),
            profile_id=profile.id if profile else "",
            pool_id=self.plan.pool_id if self.plan else "",
            kind=kind,
        )
        return await self._run(Start(self, watch, story))

    async def _run(self, start: Start) -> str:
        self.reference = secrets.token_hex(3)
        self.start_under_way = start
        self._told, self._first_eta = (), None
        self.tell()
        try:
            url = await start.url()
        except StartRefused as refused:
            refused.reference, refused.alternatives = self.reference, self.alternatives()
            self.log.warning(
                "start ended server=%r reference=%s reason=%s detail=%s",
                self._log_name, self.reference, refused.refusal.reason, refused.refusal.detail.get("technical", ""),
            )  # fmt: skip
            self._ended(start.story, StartOutcome.REFUSED, refused.refusal.reason)
            raise
        except asyncio.CancelledError:
            if self.watch is None or not self.watch.closing:
                self._ended(start.story, StartOutcome.STOPPED)
            raise
        except BaseException:
            self._ended(start.story, StartOutcome.FAILED)
            raise
        self._ended(start.story, StartOutcome.READY)
        return url

    def _ended(self, story: Story, outcome: StartOutcome, reason: str = "") -> None:
        """Make the start a record: one log line, the metrics, and what the next estimate is made of."""
        first = self._first_eta
        record = StartRecord(
            profile_id=story.profile_id,
            pool_id=story.pool_id,
            kind=story.kind,
            outcome=outcome,
            reason=reason,
            began_at=story.began_at,
            seconds=story.elapsed(time.time()),
            stages=stage_times(story),
            attempts=story.attempt,
            capacity_type=story.capacity_type,
            zone=story.zone,
            instance_type=story.instance_type,
            usd_per_hour=self.usd_per_hour(),
            eta_p50_s=first.p50_s if first else None,
            eta_p90_s=first.p90_s if first else None,
            config_hash=self.offers.settings.hash,
        )
        WatchedSpawner.history = WatchedSpawner.history.add(record)
        self.keep_record(record, self.pod_name if outcome is StartOutcome.READY else "")

    def take_next_rung(self, refusal: Refusal) -> str:
        """Plan another attempt and return it in words; "" for none, which is what a spawner without profiles does."""
        raise NotImplementedError

    def avoid_node(self, node: str) -> None:
        """Keep the next attempt away from a node."""
        raise NotImplementedError

    def alternatives(self) -> tuple[Alternative, ...]:
        """Return what could be started instead."""
        raise NotImplementedError

    async def create_and_wait(self) -> str:
        """Return what KubeSpawner returns when the pod runs; the caller usually knows before, and cancels this."""
        url: str = await super()._start()
        return url

    async def stop(self, now: bool = False) -> None:
        """Take the server's pod away and wait until it is gone."""
        self.stopping = True
        try:
            await super().stop(now)
        finally:
            self.stopping = False

    def is_pod_running(self, pod: Any) -> bool:
        """Return whether the pod runs; asked for the first time when secret, service and hooks are done."""
        self.hooks_done = True
        return bool(super().is_pod_running(pod))

    def url_of(self, pod: Any) -> str:
        """Return the URL of a raw pod's server."""
        url: str = self._get_pod_url(pod)
        return url

    def adopt_url(self, pod: Any) -> str:
        """Return the URL of a raw pod's server, and remember the pod as KubeSpawner does when a start ends."""
        self.pod_id = pod["metadata"]["uid"]
        return self.url_of(pod)

    # What is told.

    def start_data(self) -> dict[str, object]:
        """Return the start that runs, or the last one, as the data of its page; {} before the first."""
        if self.story is None:
            return {}
        # Once it ended, the hub forgets the plan: what was told last stays.
        return self._data(time.time()) if self.story.ended_at is None else dict(self._told[-1]["gpu_launcher"])

    def usd_per_hour(self) -> float | None:
        """Return what the session costs an hour, as far as it is known how its machine is bought."""
        offer = self.offers.by_id.get(self.plan.profile_id) if self.plan else None
        if offer is None or self.plan is None or not isinstance(offer.pool, SlotPool):
            return None
        usd = pool_price(offer.pool, self.offers.settings.prices).of(self._capacity())
        copies = self.plan.resources.gpus // offer.pool.slot.gpus if offer.pool.slot.gpus else 1
        return None if usd is None else usd * copies

    def _capacity(self) -> Capacity:
        """How the machine is bought; once it is there, how it was."""
        if self.story is not None and self.story.capacity_type:
            return Capacity.SPOT if self.story.capacity_type == "spot" else Capacity.ON_DEMAND
        return Capacity(self.plan.labels[CAPACITY_LABEL]) if self.plan else Capacity.ON_DEMAND

    def _priors(self) -> Priors:
        gpus = self.plan.resources.gpus if self.plan else 0
        state = self.published
        pool = state.pools.get(self.plan.pool_id) if state and self.plan else None
        return priors(cold_start(gpus, self._image(), self.offers.settings.cluster), pool.lead if pool else None)

    def _image(self) -> Image | None:
        images = self.profile.images if self.profile else ()
        return next((image for image in images if image.reference == self.image), None)

    def whole_start(self, profile: Profile, kind: StartKind) -> Eta | None:
        """Return what a start of that kind takes with a profile's first image; None where nothing can be said."""
        offer = self.offers.by_id.get(profile.id)
        if offer is None or not isinstance(offer.pool, SlotPool):
            return None
        pool, state = offer.pool, self.published
        seen = state.pools.get(pool.id) if state else None
        wait = cold_start(pool.slot.gpus, profile.image(None), self.offers.settings.cluster)
        return whole_start(self.history, pool.id, kind, priors(wait, seen.lead if seen else None), pool.slot.gpus)

    def _volumes(self) -> tuple[VolumeView, ...] | None:
        """The volumes of the pod that starts; None if unknown."""
        pod = self.watch.pods.get(self.namespace, self.pod_name) if self.watch else None
        return self.watch.volumes_of(pod) if self.watch and pod else None

    def _data(self, now: float) -> dict[str, object]:
        story, image = self.story, self._image()
        assert story is not None  # noqa: S101 - the callers looked
        return timeline(
            story,
            now,
            self.history,
            self._priors(),
            gpus=self.plan.resources.gpus if self.plan else 0,
            usd_per_hour=self.usd_per_hour(),
            image_bytes=image.bytes if image else None,
            alternatives=self.alternatives(),
            reference=self.reference,
        )

    def _eta(self, now: float) -> Eta | None:
        story = self.story
        if story is None:
            return None
        gpus = self.plan.resources.gpus if self.plan else 0
        return time_left(self.history, story, course(story.kind, gpus), now, self._priors())

    def tell(self) -> None:
        """Tell everybody who listens how the start stands now."""
        now, story = time.time(), self.story
        if story is None:
            return
        eta = self._eta(now)
        self._first_eta = self._first_eta or eta
        words = current_words(story, eta)
        so_far = self._told[-1]["progress"] if self._told else 0
        event = {
            "progress": progress_percent(story, eta, now, so_far),
            "message": words,
            "html_message": escape(words),
            "gpu_launcher": self._data(now),
        }
        self._told = (*self._told, event)
        self._told_at = now
        news, self._news = self._news, asyncio.Event()
        news.set()

    def tell_time(self) -> None:
        """Tell how much is left when that is news: nothing else has changed for a while."""
        if self.story is None or time.time() - self._told_at < _TIME_EVERY_S:
            return
        self._told_at = time.time()
        if current_words(self.story, self._eta(self._told_at)) != self._told[-1]["message"]:
            self.tell()

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what was told of the start so far, then what comes: the same to everybody, one event a change."""
        start, heard = self.start_under_way, 0
        while start is not None and start is self.start_under_way:
            news, told = self._news, self._told
            for event in told[heard:]:
                yield event
            heard = len(told)
            if start.story.ended_at is not None:
                return
            await news.wait()
