"""The controller's port."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from gpu_launcher.controller.server import Server
from gpu_launcher.domain.pool_state import PoolState, PublishedState
from gpu_launcher.telemetry.controller_metrics import PoolCollector

STATE = PublishedState(1_000.0, "hash", {"a10g-1": PoolState("a10g-1", {"": 2, "x": 1}, 1, 3, 1.006)})


@pytest.fixture
def holds() -> dict[str, bool]:
    return {"alive": True, "ready": True}


Start = Callable[[str], Awaitable[TestClient]]


@pytest.fixture
async def start(holds: dict[str, bool]) -> AsyncIterator[Start]:
    clients = []

    async def started(token: str) -> TestClient:
        registry = CollectorRegistry()
        registry.register(PoolCollector(lambda: STATE))
        server = Server(
            registry,
            alive=lambda: holds["alive"],
            ready=lambda: holds["ready"],
            accept=lambda record: isinstance(record, dict),
            token=token,
        )
        client = TestClient(TestServer(server.application()))
        clients.append(client)
        await client.start_server()
        return client

    yield started
    for client in clients:
        await client.close()


async def test_health_and_readiness_say_what_they_know(start: Start, holds: dict[str, bool]) -> None:
    client = await start("")
    assert [(await client.get(path)).status for path in ("/healthz", "/readyz")] == [200, 200]
    holds.update(alive=False, ready=False)
    answers = [await client.get(path) for path in ("/healthz", "/readyz")]
    assert [answer.status for answer in answers] == [503, 503]
    assert "not published" in await answers[1].text()


async def test_metrics_are_those_of_the_published_state(start: Start) -> None:
    answer = await (await start("")).get("/metrics")
    assert answer.content_type == "text/plain"
    lines = (await answer.text()).splitlines()
    assert 'gpu_launcher_pool_slots{pool="a10g-1",state="ready"} 2.0' in lines
    assert 'gpu_launcher_pool_slots{pool="a10g-1",state="starting"} 1.0' in lines
    assert 'gpu_launcher_pool_slots{pool="a10g-1",state="in_use"} 3.0' in lines
    assert 'gpu_launcher_pool_slot_usd_per_hour{pool="a10g-1"} 1.006' in lines
    assert "gpu_launcher_pool_state_observed_timestamp_seconds 1000.0" in lines


@pytest.mark.parametrize(
    ("token", "header", "body", "status"),
    [
        ("secret", "Bearer secret", "{}", 204),
        ("secret", "bearer secret", "{}", 204),
        ("secret", "Bearer wrong", "{}", 403),
        ("secret", "Basic secret", "{}", 403),
        ("secret", "", "{}", 403),
        ("secret", "Bearer \udc80", "{}", 403),
        ("", "Bearer ", "{}", 403),
        ("", "", "{}", 403),
        ("secret", "Bearer secret", "{", 400),
        ("secret", "Bearer secret", "[" * 50_000, 400),
        ("secret", "Bearer secret", "[]", 400),
        ("secret", "Bearer secret", json.dumps("x" * 70_000), 413),
    ],
)
async def test_records_of_starts_need_the_secret_and_sense(
    start: Start, token: str, header: str, body: str, status: int
) -> None:
    client = await start(token)
    answer = await client.post("/api/v1/starts", data=body.encode(), headers={"Authorization": header})
    assert answer.status == status
