"""The controller's eyes on the cluster: machines, pods of every namespace, and what Karpenter asks for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

from gpu_launcher.cluster.api import KubeApi
from gpu_launcher.cluster.informer import identity
from gpu_launcher.cluster.parse import event_view, node_claim_view, node_pool_view, node_view, pod_view
from gpu_launcher.cluster.paths import core, group
from gpu_launcher.cluster.viewed import Viewed
from gpu_launcher.domain.start import Shortage
from gpu_launcher.domain.views import EventView, NodeClaimView, NodePoolView, NodeView, PodView
from gpu_launcher.explain.shortage import Shortages

_KARPENTER = "karpenter.sh/v1"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the cluster holds; None for what cannot be read."""

    nodes: tuple[NodeView, ...] | None = None
    pods: tuple[PodView, ...] | None = None
    claims: tuple[NodeClaimView, ...] | None = None
    node_pools: tuple[NodePoolView, ...] | None = None

    @property
    def unknown(self) -> tuple[str, ...]:
        """The resources that cannot be read, by their names in RBAC rules."""
        read = {"nodes": self.nodes, "pods": self.pods, "nodeclaims": self.claims, "nodepools": self.node_pools}
        return tuple(name for name, views in read.items() if views is None)

    def same_as(self, other: Facts) -> bool:
        """Whether nothing at all has changed since the other; a cheap look, not a comparison."""
        return (
            self.nodes is other.nodes
            and self.pods is other.pods
            and self.claims is other.claims
            and self.node_pools is other.node_pools
        )


class ClusterWatch:
    """Everything that the controller sees of the cluster; ``run`` keeps it current."""

    def __init__(self, api: KubeApi) -> None:
        self._nodes: Viewed[NodeView] = Viewed(api, core("nodes"), node_view)
        # Ended pods hold no room, and a cluster may keep thousands of them.
        self._pods: Viewed[PodView] = Viewed(
            api, core("pods"), pod_view, fieldSelector="status.phase!=Succeeded,status.phase!=Failed"
        )
        self._claims: Viewed[NodeClaimView] = Viewed(
            api, group(_KARPENTER, "nodeclaims"), node_claim_view, self._claim_changed
        )
        self._node_pools: Viewed[NodePoolView] = Viewed(api, group(_KARPENTER, "nodepools"), node_pool_view)
        # NodeClaims belong to no namespace, so events about them land in `default`.
        self._events: Viewed[EventView] = Viewed(
            api,
            core("events", namespace="default"),
            event_view,
            self._event_changed,
            fieldSelector="involvedObject.kind=NodeClaim",
        )
        self._shortages = Shortages()
        self._informers = [
            viewed.informer for viewed in (self._nodes, self._pods, self._claims, self._node_pools, self._events)
        ]
        for informer in self._informers:
            # A pod takes thirty times as much as its view: 340 MB for 5,000 of them.
            informer.kept = identity

    async def run(self) -> None:
        """List and watch until cancelled; what may not be read is asked for again and again."""
        async with asyncio.TaskGroup() as tasks:
            for informer in self._informers:
                tasks.create_task(informer.run())

    async def first_look(self, within_s: float) -> None:
        """Wait until everything was read once, at most *within_s* seconds: some of it may never be."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                for informer in self._informers:
                    await informer.synced.wait()

    def facts(self) -> Facts:
        """Return what is known now; the same tuples as before where nothing changed."""
        return Facts(self._nodes.all(), self._pods.all(), self._claims.all(), self._node_pools.all())

    def shortages(self, now: float) -> tuple[Shortage, ...]:
        """Return what the cloud did not give lately, oldest first."""
        return self._shortages.all(now)

    def _claim_changed(self, kind: str, claim: NodeClaimView) -> None:
        self._shortages = self._shortages.seen_claim(kind, claim, time.time())

    def _event_changed(self, kind: str, event: EventView) -> None:
        if kind != "DELETED":
            self._shortages = self._shortages.seen_event(event)
