"""A start's record as JSON: for the log line, the POST to the controller and the pod's annotation, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping

from gpu_launcher.domain.stage import Stage, StartKind, StartOutcome
from gpu_launcher.domain.start import StageTime, StartRecord
from gpu_launcher.explain.untrusted import duration, json_object, member, number, text

VERSION = 1
# What a log line begins with, so that the lines are found again among a hub's others.
_MARK = "gpu-launcher start record "
# A start is tried a few times, with ten stages each; more than this was not written by the launcher.
_MOST_STAGES = 60
_MOST_DETAILS = 20


def record_data(record: StartRecord) -> dict[str, object]:
    """Return the record as JSON data: times in seconds, dollars per hour, None for what is unknown."""
    return {
        "version": VERSION,
        "profile": record.profile_id,
        "pool": record.pool_id,
        "kind": record.kind.value,
        "outcome": record.outcome.value,
        "reason": record.reason,
        "began_at": round(record.began_at, 3),
        "seconds": round(record.seconds, 3),
        "stages": [[time.stage.value, round(time.seconds, 3)] for time in record.stages],
        "attempts": record.attempts,
        "capacity_type": record.capacity_type,
        "zone": record.zone,
        "instance_type": record.instance_type,
        "usd_per_hour": record.usd_per_hour,
        "eta_p50_s": record.eta_p50_s,
        "eta_p90_s": record.eta_p90_s,
        "config_hash": record.config_hash,
        "detail": dict(record.detail),
    }


def record_from(data: object) -> StartRecord | None:
    """Return the record that the JSON data describe; None for anything that is not one, whoever sent it."""
    if not isinstance(data, Mapping) or data.get("version") != VERSION:
        return None
    kind, outcome = member(StartKind, data.get("kind")), member(StartOutcome, data.get("outcome"))
    began_at, seconds = number(data.get("began_at")), duration(data.get("seconds"))
    stages = _stages(data.get("stages"))
    if kind is None or outcome is None or began_at is None or seconds is None or stages is None:
        return None
    attempts = number(data.get("attempts"))
    return StartRecord(
        profile_id=text(data.get("profile")),
        pool_id=text(data.get("pool")),
        kind=kind,
        outcome=outcome,
        reason=text(data.get("reason")),
        began_at=began_at,
        seconds=seconds,
        stages=stages,
        attempts=max(1, int(attempts)) if attempts is not None else 1,
        capacity_type=text(data.get("capacity_type")),
        zone=text(data.get("zone")),
        instance_type=text(data.get("instance_type")),
        usd_per_hour=duration(data.get("usd_per_hour")),
        eta_p50_s=duration(data.get("eta_p50_s")),
        eta_p90_s=duration(data.get("eta_p90_s")),
        config_hash=text(data.get("config_hash")),
        detail=_detail(data.get("detail")),
    )


def dump_record(record: StartRecord) -> str:
    """Return the record as compact JSON of one line."""
    return json.dumps(record_data(record), separators=(",", ":"), sort_keys=True)


def load_record(raw: object) -> StartRecord | None:
    """Return the record of a JSON text; None for anything else."""
    return record_from(json_object(raw))


def log_line(record: StartRecord) -> str:
    """Return the message under which a start is logged."""
    return _MARK + dump_record(record)


def record_in(line: str) -> StartRecord | None:
    """Return the record in a line of a log, or in a line that is nothing but JSON; None where there is none."""
    _, found, logged = line.partition(_MARK)
    return load_record(logged if found else line)


def _stages(raw: object) -> tuple[StageTime, ...] | None:
    if not isinstance(raw, list) or len(raw) > _MOST_STAGES:
        return None
    times = [_stage_time(one) for one in raw]
    found = tuple(time for time in times if time is not None)
    # Without one of them the others would tell of a start that never was.
    return found if len(found) == len(times) else None


def _stage_time(raw: object) -> StageTime | None:
    if not isinstance(raw, list) or len(raw) != 2:
        return None
    stage, seconds = member(Stage, raw[0]), duration(raw[1])
    return None if stage is None or seconds is None else StageTime(stage, seconds)


def _detail(raw: object) -> Mapping[str, str]:
    if not isinstance(raw, Mapping):
        return {}
    pairs = [(text(key, 60), text(value)) for key, value in raw.items()]
    return dict([(key, value) for key, value in pairs if key and value][:_MOST_DETAILS])
