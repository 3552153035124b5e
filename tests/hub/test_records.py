"""What a start and a session leave behind: log line, metrics, a message to the controller, an event."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from gpu_launcher.domain.stage import StartKind, StartOutcome
from gpu_launcher.telemetry.records import record_from, record_in
from hubs import api_error, free_port, running_hub


def value(name: str, **labels: str) -> float:
    found = REGISTRY.get_sample_value(name, labels)
    assert found is not None, f"{name} {labels} is not there before anything happened"
    return found


@asynccontextmanager
async def controller() -> AsyncIterator[tuple[str, list[tuple[str, Any]]]]:
    """A controller that keeps what it gets."""
    got: list[tuple[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        got.append((request.headers["Authorization"], await request.json()))
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/api/v1/starts", take)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}", got
    finally:
        await runner.cleanup()


async def test_a_start_is_one_log_line_its_metrics_and_a_message_and_the_session_one_event(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPU_LAUNCHER_TOKEN", "shared-secret")
    events = io.StringIO()
    handler = logging.StreamHandler(events)
    async with (
        controller() as (url, got),
        running_hub(GpuSpawner={"controller_url": url}, EventLogger={"handlers": [handler]}) as hub,
    ):
        await hub.user("rec", ("research",))
        labels = {"profile": "a10g", "start": "cold", "outcome": "ready"}
        before = value("gpu_launcher_spawn_duration_seconds_count", **labels)
        with caplog.at_level(logging.INFO):
            assert (await hub.start("rec", {"profile": "a10g"}))[0] == 201
        records = [record for line in caplog.messages if (record := record_in(line))]
        assert len(records) == 1
        (record,) = records
        assert (record.profile_id, record.outcome, record.kind) == ("a10g", StartOutcome.READY, StartKind.COLD)
        assert record.seconds == pytest.approx(sum(time.seconds for time in record.stages), abs=0.01)
        assert value("gpu_launcher_spawn_duration_seconds_count", **labels) == before + 1
        async with asyncio.timeout(5):
            while not got:  # noqa: ASYNC110 - it comes over HTTP
                await asyncio.sleep(0.01)
        assert got[0][0] == "Bearer shared-secret"
        assert record_from(got[0][1]) == record
        await hub.stop("rec")
    (ended,) = [json.loads(line) for line in events.getvalue().splitlines() if "session-end" in line]
    assert (ended["user"], ended["groups"], ended["profile"], ended["end_reason"]) == (
        "rec",
        ["research"],
        "a10g",
        "stopped",
    )
    assert ended["gpus"] == 1
    assert ended["busy_seconds"] is ended["idle_seconds"] is ended["unknown_seconds"] is None
    assert ended["price_source"] == "list"


async def test_a_controller_that_is_away_holds_nothing_up() -> None:
    async with running_hub(GpuSpawner={"controller_url": f"http://127.0.0.1:{free_port()}"}) as hub:
        await hub.user("rec")
        assert (await hub.start("rec", {"profile": "cpu"}))[0] == 201


async def test_a_refused_create_is_a_record_with_its_reason_and_no_session(caplog: pytest.LogCaptureFixture) -> None:
    events = io.StringIO()
    async with running_hub(EventLogger={"handlers": [logging.StreamHandler(events)]}) as hub:
        await hub.user("rec")
        hub.cluster.answers = [api_error(403, 'pods "x" is forbidden: exceeded quota: gpus')]
        before = value("gpu_launcher_start_refusals_total", profile="a10g", reason="quota")
        with caplog.at_level(logging.INFO):
            status, _ = await hub.start("rec", {"profile": "a10g"})
        assert status == 403
        (record,) = [record for line in caplog.messages if (record := record_in(line))]
        assert (record.outcome, record.reason) == (StartOutcome.REFUSED, "quota")
        assert value("gpu_launcher_start_refusals_total", profile="a10g", reason="quota") == before + 1
        before = value("gpu_launcher_start_refusals_total", profile="unknown", reason="unknown_profile")
        await hub.start("rec", {"profile": "<script>"})
        assert value("gpu_launcher_start_refusals_total", profile="unknown", reason="unknown_profile") == before + 1
    assert "session-end" not in events.getvalue()
