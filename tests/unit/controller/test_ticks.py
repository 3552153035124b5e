"""The controller's ticks: what is published, how often, and what happens when it cannot be."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, cast

import pytest

from gpu_launcher.cluster.api import KubeApi, Raw
from gpu_launcher.cluster.errors import Forbidden, KubeError, NotFound
from gpu_launcher.cluster.state import state_of
from gpu_launcher.controller.observe import Observer
from gpu_launcher.controller.publish import Publisher
from gpu_launcher.controller.run import Controller
from gpu_launcher.controller.watch import ClusterWatch, Facts
from gpu_launcher.domain.start import Shortage
from gpu_launcher.domain.views import NodeView, PodView
from gpu_launcher.settings.load import load_settings

SETTINGS = load_settings({})
EMPTY = Facts((), (), (), ())


class Watch:
    """Shows the facts that the test puts there."""

    def __init__(self) -> None:
        self.now = EMPTY

    async def first_look(self, within_s: float) -> None:
        return None

    def facts(self) -> Facts:
        return self.now

    def shortages(self, now: float) -> tuple[Shortage, ...]:
        return ()


class Api:
    """Keeps what is applied; refuses with ``error`` while there is one."""

    def __init__(self) -> None:
        self.applied: list[Raw] = []
        self.error: KubeError | None = None

    async def patch(self, path: str, body: Raw, kind: str, **options: Any) -> Raw:
        if self.error:
            raise self.error
        assert path == "/api/v1/namespaces/jupyter/configmaps/x-state"
        assert (kind, options) == ("apply", {"field_manager": "gpu-launcher-controller", "force": True})
        self.applied.append(body)
        return body


class Bench:
    """A controller between a watch and an API of the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = 1_000.0
        monkeypatch.setattr("gpu_launcher.controller.run.time.time", lambda: self.clock)
        self.watch, self.api = Watch(), Api()
        self.publisher = Publisher(cast(KubeApi, self.api), "jupyter", "x-state")
        self.controller = Controller(cast(ClusterWatch, self.watch), Observer(SETTINGS), self.publisher)

    async def ticks(self, *clock: float) -> int:
        """Tick at these times and return how often something was written."""
        before = len(self.api.applied)
        for self.clock in clock:
            await self.controller.tick()
        return len(self.api.applied) - before


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


async def test_published_at_once_then_on_change_and_at_least_every_ten_seconds(bench: Bench) -> None:
    assert await bench.ticks(1000) == 1
    assert await bench.ticks(1002, 1004, 1006, 1008) == 0
    assert await bench.ticks(1010) == 1
    # Something changed that changes no slot.
    bench.watch.now = Facts((NodeView("cpu"),), (), (), ())
    assert await bench.ticks(1012) == 0
    session = PodView("jupyter", "p", node="gone", phase="Running", labels={"gpu-launcher/pool": "t4-1"})
    bench.watch.now = Facts((), (session,), (), ())
    assert await bench.ticks(1014) == 1
    state = state_of(bench.api.applied[-1])
    assert state is not None
    assert (state.observed_at, state.config_hash, state.unknown) == (1014, SETTINGS.hash, ())
    assert state.pools["t4-1"].in_use == 1


@pytest.mark.parametrize(
    ("facts", "unknown", "known"),
    [
        (Facts(None, (), (), ()), ("nodes",), False),
        (Facts((), None, (), ()), ("pods",), False),
        (Facts((), (), None, ()), ("nodeclaims",), True),
        (Facts((), (), (), None), ("nodepools",), True),
        (Facts(), ("nodes", "pods", "nodeclaims", "nodepools"), False),
    ],
)
async def test_what_cannot_be_read_is_named_and_nothing_is_guessed(
    bench: Bench, facts: Facts, unknown: tuple[str, ...], known: bool
) -> None:
    bench.watch.now = facts
    await bench.ticks(1000)
    state = state_of(bench.api.applied[-1])
    assert state is not None
    assert state.unknown == unknown
    assert bool(state.pools) is known


@pytest.mark.parametrize(
    "error", [Forbidden(403, "Forbidden", "cannot patch resource"), NotFound(404, "NotFound", "not found")]
)
async def test_a_refused_write_is_told_once_with_the_remedy_and_tried_again(
    bench: Bench, error: KubeError, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bench.api.error = error
    await bench.ticks(1000, 1002, 1004)
    (told,) = [record.getMessage() for record in caplog.records]
    assert error.message in told
    assert "helm upgrade" in told
    assert not bench.controller.ready()
    assert bench.controller.alive()
    bench.api.error = None
    assert await bench.ticks(1006) == 1
    assert bench.controller.ready()
    assert "published again" in caplog.text


async def test_a_state_holds_no_more_than_what_the_controller_owns(bench: Bench) -> None:
    await bench.ticks(1000)
    (body,) = bench.api.applied
    assert set(body) == {"apiVersion", "kind", "metadata", "data"}
    assert set(body["metadata"]) == {"name", "namespace"}
    assert len(json.dumps(body)) < 20_000


async def test_a_tick_that_fails_is_logged_and_the_next_one_comes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stop, seen = asyncio.Event(), 0

    def facts() -> Facts:
        nonlocal seen
        seen += 1
        if seen == 1:
            raise RuntimeError("a defect")
        stop.set()
        return EMPTY

    monkeypatch.setattr(bench.watch, "facts", facts)
    await bench.controller.run(stop, tick_s=0.001)
    assert seen == 2
    assert "a defect" in caplog.text
    assert len(bench.api.applied) == 1
