"""KubeSpawner whose starts are watched, and end with a server or a reason."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from typing import Any

from traitlets import Unicode

from gpu_launcher.domain.outcomes import Refusal, RefusalReason
from gpu_launcher.domain.stage import StartKind, StartOutcome
from gpu_launcher.domain.start import StartRecord
from gpu_launcher.explain.story import Story, begin, stage_times
from gpu_launcher.hub.refusal import StartRefused
from gpu_launcher.hub.start import Start
from gpu_launcher.hub.telling import ToldStarts
from gpu_launcher.hub.watch import ClusterWatch


class WatchedSpawner(ToldStarts):
    """KubeSpawner that knows at any moment what a start waits for, and returns as soon as its server answers."""

    state_config_map = Unicode(
        "gpu-launcher-state",
        config=True,
        help="""
        The ConfigMap in the hub's namespace that the controller publishes into.

        Another name where the chart's release is not called ``gpu-launcher``.
        """,
    )

    hooks_done = False
    """Whether a start has come to the point where KubeSpawner only waits for its pod."""

    stopping = False
    """Whether a pod of this server is being taken away, by whomever."""

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
            await self.heard()
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

    async def create_and_wait(self) -> str:
        """Return what KubeSpawner returns when the pod runs; the caller usually knows before, and cancels this."""
        try:
            url: str = await super()._start()
        except TimeoutError:
            # The API server is too slow for KubeSpawner: the hub would count it as its own failure, and end of five.
            raise StartRefused(
                Refusal(
                    RefusalReason.DEADLINE,
                    "The cluster took too long to accept the server; it is busy or cannot be reached. Try again in a "
                    "few minutes.",
                )
            ) from None
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
