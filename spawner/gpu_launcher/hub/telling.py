"""A start in the words and figures that people get: progress events, the page's data, estimates, the price."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from html import escape
from typing import Any, ClassVar

from traitlets import default

from gpu_launcher.cluster.state import is_current
from gpu_launcher.domain.image_reference import normalised
from gpu_launcher.domain.plan import PodPlan
from gpu_launcher.domain.pool import SlotPool
from gpu_launcher.domain.pool_state import PublishedState
from gpu_launcher.domain.profile import Capacity, Image, Profile
from gpu_launcher.domain.stage import Stage, StartKind
from gpu_launcher.domain.views import VolumeView
from gpu_launcher.explain.alternatives import Alternative
from gpu_launcher.explain.eta import Eta, Priors, course, priors, time_left, whole_start
from gpu_launcher.explain.history import History
from gpu_launcher.explain.prices import pool_price
from gpu_launcher.explain.story import Story
from gpu_launcher.explain.timeline import current_words, progress_percent, timeline
from gpu_launcher.explain.wait import cold_start
from gpu_launcher.hub.ending import EndedSessions
from gpu_launcher.hub.offers import Offers
from gpu_launcher.hub.pages import StartPages
from gpu_launcher.hub.start import Start
from gpu_launcher.hub.watch import ClusterWatch
from gpu_launcher.planning.placement import CAPACITY_LABEL

# An estimate that changes every second is read by nobody, and costs every start that waits.
_TIME_EVERY_S = 5.0
# The hub ends its progress streams with the start, told or not; a reader that is gone holds up the end no longer.
_HEARD_S = 1.0


class ToldStarts(StartPages, EndedSessions):
    """KubeSpawner that can say at any moment how its start stands."""

    history: ClassVar[History] = History()
    """What this hub's own finished starts say about the next one."""

    plan: PodPlan | None = None
    """What was decided for the server that runs or starts; None for none, and for servers from before the launcher."""

    watch: ClusterWatch | None = None
    """What the hub sees of the cluster; None before the first start of this process."""

    start_under_way: Start | None = None
    """The start that runs, or the last one that ended; None before the first."""

    reference = ""
    """Six characters that a person can read out: on the page and in the log of the same start."""

    _told: tuple[dict[str, Any], ...] = ()
    _told_at = 0.0
    _first_eta: Eta | None = None
    """Of the whole start, as it was first stated."""

    _listening = 0
    """Progress streams that have not heard the end yet."""

    _news: asyncio.Event

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._news = asyncio.Event()

    @default("events_enabled")
    def _no_second_watch(self) -> bool:
        # They are for KubeSpawner's own progress; what a start needs to know of events, ClusterWatch watches.
        return False

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

    def alternatives(self) -> tuple[Alternative, ...]:
        """Return what could be started instead."""
        raise NotImplementedError

    # What is told.

    def start_data(self) -> dict[str, object]:
        """Return the start that runs, or the last one, as the data of its page; {} before the first."""
        if self.story is None:
            return {}
        # Once it ended, the hub forgets the plan: what was told last stays.
        if self.story.ended_at is not None:
            return dict(self._told[-1]["gpu_launcher"])
        now = time.time()
        return self._data(self.story, now, self._eta(now))

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

    def _data(self, story: Story, now: float, eta: Eta | None) -> dict[str, object]:
        image = self._image()
        return timeline(
            story,
            now,
            self.history,
            self._priors(),
            eta=eta,
            gpus=self.plan.resources.gpus if self.plan else 0,
            usd_per_hour=self.usd_per_hour(),
            image_bytes=image.bytes if image else None,
            alternatives=self._others(story),
            reference=self.reference,
        )

    def _others(self, story: Story) -> list[Alternative]:
        """What the page offers instead; to find out costs more than all else on it, so not where nobody needs it."""
        if story.ended_at is not None:
            return [] if story.ready else list(self.alternatives())
        if not Stage.QUEUED.place < story.current.stage.place < Stage.SCHEDULING.place:
            return []
        # Whoever waits already is only helped by what is there at once.
        return [other for other in self.alternatives() if other.ready_now]

    def _eta(self, now: float) -> Eta | None:
        story = self.story
        if story is None:
            return None
        gpus = self.plan.resources.gpus if self.plan else 0
        return time_left(self.history, story, course(story.kind, gpus), now, self._priors())

    def expect_start(self) -> None:
        """Forget a start that ended: another one was asked for, and those who listen already wait for its story."""
        if self.story is not None and self.story.ended_at is not None:
            self.start_under_way = None

    def tell(self) -> None:
        """Tell everybody who listens how the start stands now."""
        now, story = time.time(), self.story
        if story is None:
            return
        eta = self._eta(now)
        if self._first_eta is None and eta is not None:
            spent = story.elapsed(now)
            self._first_eta = replace(eta, p50_s=eta.p50_s + spent, p90_s=eta.p90_s + spent)
        words = current_words(story, eta)
        so_far = self._told[-1]["progress"] if self._told else 0
        event = {
            "progress": progress_percent(story, eta, now, so_far),
            "message": words,
            "html_message": escape(words),
            "gpu_launcher": self._data(story, now, eta),
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

    async def progress(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield what was told of the start so far, then what comes: the same to everybody, one event a change.

        Of what was told before, only the last event holds the page's data: a page shows the newest.
        """
        self._listening += 1
        try:
            while self.start_under_way is None and self._spawn_pending:
                # The page comes as soon as the hub took the request; hooks and the decision come before the start.
                await self._news.wait()
            start, heard = self.start_under_way, 0
            while start is not None and start is self.start_under_way:
                news, told = self._news, self._told
                for event in told[heard:-1]:
                    yield event | {"gpu_launcher": None}
                if told[heard:]:
                    yield told[-1]
                heard = len(told)
                if start.story.ended_at is not None:
                    return
                await news.wait()
        finally:
            self._listening -= 1

    async def heard(self) -> None:
        """Return when all who listen have heard the end."""
        until = time.monotonic() + _HEARD_S
        while self._listening and time.monotonic() < until:  # noqa: ASYNC110 - a moment, once a start
            await asyncio.sleep(0.02)
