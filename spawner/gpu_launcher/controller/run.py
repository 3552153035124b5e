"""The controller as a process: watch, tick, publish, answer; until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter

from gpu_launcher.cluster.api import KubeApi
from gpu_launcher.controller.observe import Observer
from gpu_launcher.controller.publish import Publisher
from gpu_launcher.controller.server import Server
from gpu_launcher.controller.watch import ClusterWatch, Facts
from gpu_launcher.settings.load import Settings
from gpu_launcher.telemetry.controller_metrics import PoolCollector, start_records
from gpu_launcher.telemetry.records import record_from

log = logging.getLogger(__name__)

# The first state says what it could not read; lists of a large cluster deserve this long before they count as that.
_FIRST_LOOK_S = 10.0
# A tick writes to the API server, which may take 30 s to fail; twice that without one, and the process is stuck.
_STUCK_S = 60.0


class CannotListen(Exception):
    """Nothing can listen at the address; the message names it and the reason."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the controller publishes and listens. ``kubeconfig`` None: the pod's own account. Seconds for a tick."""

    namespace: str
    config_map: str
    host: str
    port: int
    tick_s: float = 2.0
    token: str = ""
    kubeconfig: Path | None = None


class Controller:
    """Looks at the cluster every tick, and publishes what it saw where that is news."""

    def __init__(self, watch: ClusterWatch, observer: Observer, publisher: Publisher) -> None:
        self._watch = watch
        self._observer = observer
        self._publisher = publisher
        self._facts: Facts | None = None
        self._ticked_at = time.monotonic()
        self._is_published = False

    def alive(self) -> bool:
        """Return whether the last tick ended lately."""
        return time.monotonic() - self._ticked_at < _STUCK_S

    def ready(self) -> bool:
        """Return whether the last tick left a current state in the cluster."""
        return self._is_published and self.alive()

    async def tick(self) -> None:
        """Look, and publish if there is something to say."""
        now, facts = time.time(), self._watch.facts()
        last = self._publisher.published
        # Most ticks see nothing new: thousands of pods are not counted again for that.
        if not (self._facts and facts.same_as(self._facts) and last and not self._publisher.gets_old(now)):
            state = self._observer.state(facts, self._watch.shortages(now), now)
            self._is_published = await self._publisher.publish(state)
            self._facts = facts if self._is_published else None
        self._ticked_at = time.monotonic()

    async def run(self, stop: asyncio.Event, tick_s: float) -> None:
        """Tick until *stop*; a tick that fails is a defect, logged, and the next one comes."""
        await self._watch.first_look(_FIRST_LOOK_S)
        while not stop.is_set():
            try:
                await self.tick()
            except Exception:
                log.exception("tick failed")
            try:
                await asyncio.wait_for(stop.wait(), tick_s)
            except TimeoutError:
                continue


async def run(settings: Settings, place: Place) -> None:
    """Observe and publish until SIGTERM or SIGINT. Raises CannotListen."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with await KubeApi.connect(place.kubeconfig) as api:
        watch, publisher = ClusterWatch(api), Publisher(api, place.namespace, place.config_map)
        observer = Observer(settings)
        controller = Controller(watch, observer, publisher)
        registry = CollectorRegistry()
        registry.register(PoolCollector(lambda: publisher.published))
        accept = _counting(start_records(registry))
        server = Server(registry, alive=controller.alive, ready=controller.ready, accept=accept, token=place.token)
        log.info(
            "controller started config_hash=%s pools=%s state=%s/%s",
            settings.hash, ",".join(observer.pools), place.namespace, place.config_map,
        )  # fmt: skip
        async with _listening(server, place):
            watching = asyncio.create_task(watch.run())
            try:
                await controller.run(stop, place.tick_s)
            finally:
                watching.cancel()
    log.info("controller ended")


@asynccontextmanager
async def _listening(server: Server, place: Place) -> AsyncIterator[None]:
    runner = web.AppRunner(server.application(), access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, place.host, place.port).start()
        except OSError as error:
            raise CannotListen(f"{place.host}:{place.port}: {error.strerror}") from error
        yield
    finally:
        await runner.cleanup()


def _counting(received: Counter) -> Callable[[object], bool]:
    """Return what becomes of a posted record: it is counted, if it is one."""

    def accept(data: object) -> bool:
        record = record_from(data)
        if record is not None:
            received.labels(record.outcome.value).inc()
        return record is not None

    return accept
