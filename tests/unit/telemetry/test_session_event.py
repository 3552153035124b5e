"""The event of a session's end: what is unknown is null, and the hub's own logger takes it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from jsonschema import Draft7Validator

from gpu_launcher.domain.stage import Stage, StartKind, StartOutcome
from gpu_launcher.domain.start import StageTime, StartRecord
from gpu_launcher.telemetry.session_event import SCHEMA_ID, SCHEMA_VERSION, EndReason, SessionEnd, event, schema

NOTHING_KNOWN = SessionEnd("ann", "", (), None, 500.0)
KNOWN = SessionEnd(
    "ann",
    "train",
    ("physics",),
    100.0,
    500.0,
    EndReason.STOPPED,
    "a10g",
    "a10g-1",
    1,
    "spot",
    "us-west-2b",
    "g5.xlarge",
    0.4,
    "spot-estimate",
    StartRecord(
        "a10g",
        "a10g-1",
        StartKind.COLD,
        StartOutcome.READY,
        "",
        30.0,
        70.0,
        (StageTime(Stage.QUEUED, 2.0), StageTime(Stage.BOOTING, 68.0)),
        attempts=2,
    ),
    300.0,
    80.0,
    20.0,
)


@pytest.mark.parametrize("end", [NOTHING_KNOWN, KNOWN, *(replace(KNOWN, reason=reason) for reason in EndReason)])
def test_every_event_is_valid(end: SessionEnd) -> None:
    Draft7Validator.check_schema(schema())
    Draft7Validator({**schema(), "additionalProperties": False}).validate(event(end))


def test_what_is_unknown_is_null_and_never_zero() -> None:
    data = event(NOTHING_KNOWN)
    for field in (
        "busy_seconds",
        "idle_seconds",
        "unknown_seconds",
        "seconds",
        "usd_per_hour",
        "start_seconds",
        "gpus",
    ):
        assert data[field] is None
    assert (data["end_reason"], data["start_kind"], data["stages"]) == ("unknown", "unknown", [])


def test_what_is_known_is_told() -> None:
    data = event(KNOWN)
    assert (data["seconds"], data["start_kind"], data["start_seconds"], data["start_attempts"]) == (400, "cold", 70, 2)
    assert data["stages"] == [{"stage": "queued", "seconds": 2.0}, {"stage": "booting", "seconds": 68.0}]
    assert (data["busy_seconds"], data["idle_seconds"], data["unknown_seconds"]) == (300, 80, 20)
    assert event(replace(KNOWN, began_at=900.0))["seconds"] == 0


def test_the_hubs_logger_takes_the_schema() -> None:
    events = pytest.importorskip("jupyter_events")
    logger = events.EventLogger()
    logger.register_event_schema(schema())
    assert (schema()["$id"], schema()["version"]) == (SCHEMA_ID, SCHEMA_VERSION)
    assert SCHEMA_ID in logger.schemas
