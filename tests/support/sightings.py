"""When a change of the cluster could be seen by anybody: what the API server's watches said, and at which moment."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from gpu_launcher.cluster.api import KubeApi, Raw
from gpu_launcher.cluster.informer import Informer
from gpu_launcher.cluster.paths import core, group
from provisioning import KARPENTER, eventually


@dataclass(frozen=True)
class Sighting:
    """One change of one object. ``at`` is Unix seconds; ``what`` is the watched resource's plural."""

    at: float
    what: str
    kind: str
    raw: Raw

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.raw["metadata"]["name"])


@dataclass
class Sightings:
    """Everything that was seen, oldest first."""

    seen: list[Sighting] = field(default_factory=list)

    def first(self, what: str, holds: Callable[[Sighting], bool]) -> Sighting | None:
        """Return the first sighting of this resource for which this holds."""
        return next((one for one in self.seen if one.what == what and holds(one)), None)

    async def until(self, what: str, holds: Callable[[Sighting], bool], within: float = 30, why: str = "") -> Sighting:
        """Wait for such a sighting."""

        async def found() -> Sighting | None:
            return self.first(what, holds)

        sighting: Sighting = await eventually(found, within, why or f"a sighting of {what}")
        return sighting


@contextlib.asynccontextmanager
async def watching(api: KubeApi, namespace: str) -> AsyncIterator[Sightings]:
    """Watch a hub's pods and all nodes, NodeClaims and events for the length of a block."""
    sightings = Sightings()
    paths = {
        "pods": core("pods", namespace=namespace),
        "nodes": core("nodes"),
        "nodeclaims": group(KARPENTER, "nodeclaims"),
        "events": core("events"),
    }
    async with contextlib.AsyncExitStack() as stack:
        for what, path in paths.items():
            informer = Informer(api, path)
            informer.subscribe(_recorder(sightings, what))
            await stack.enter_async_context(informer)
            async with asyncio.timeout(20):
                await informer.synced.wait()
        yield sightings


def _recorder(sightings: Sightings, what: str) -> Callable[[str, Raw], None]:
    def record(kind: str, raw: Raw) -> None:
        sightings.seen.append(Sighting(time.time(), what, kind, raw))

    return record
