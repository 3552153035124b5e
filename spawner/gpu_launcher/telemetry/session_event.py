"""The event that a session's end leaves in JupyterHub's event log: its schema and how it is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gpu_launcher.domain.stage import StartKind
from gpu_launcher.domain.start import StartRecord

SCHEMA_ID = "urn:gpu-launcher:session-end"
SCHEMA_VERSION = "1"


class EndReason(StrEnum):
    """Why a session ended; closed. Later versions may add reasons, so a reader takes unknown ones as ``unknown``."""

    STOPPED = "stopped"
    """By its user, or an administrator for them."""
    CULLED = "culled"
    INTERRUPTED = "interrupted"
    """The cloud took the machine back."""
    EXPIRED = "expired"
    """It reached its maximum age."""
    CRASHED = "crashed"
    EVICTED = "evicted"
    LOST = "lost"
    """Its pod went away without the hub."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """A session that ended. Times are Unix seconds; None is unknown, also where nobody measured."""

    user: str
    server: str
    groups: tuple[str, ...]
    began_at: float | None
    ended_at: float
    reason: EndReason = EndReason.UNKNOWN
    profile_id: str = ""
    pool_id: str = ""
    gpus: int | None = None
    capacity_type: str = ""
    zone: str = ""
    instance_type: str = ""
    usd_per_hour: float | None = None
    price_source: str = ""
    """Where the price is from: ``list``, ``override``, ``spot-estimate``."""
    start: StartRecord | None = None
    busy_s: float | None = None
    idle_s: float | None = None
    unknown_s: float | None = None


def _nullable(kind: str, words: str) -> dict[str, object]:
    return {"type": [kind, "null"], "description": words}


_PROPERTIES: Mapping[str, Mapping[str, object]] = {
    "user": {"type": "string", "description": "Name of the user as JupyterHub knows it"},
    "server": {"type": "string", "description": "Name of the server; empty for the default server"},
    "groups": {"type": "array", "items": {"type": "string"}, "description": "The user's groups when the session ended"},
    "profile": _nullable("string", "Id of the profile"),
    "pool": _nullable("string", "Id of the slot pool"),
    "gpus": _nullable("integer", "GPUs of the session"),
    "instance_type": _nullable("string", "The machine's type"),
    "capacity_type": _nullable("string", "How the machine was bought: on-demand, spot, reserved"),
    "zone": _nullable("string", "The machine's zone"),
    "usd_per_hour": _nullable("number", "Price of the session in dollars per hour"),
    "price_source": _nullable("string", "Where the price is from: list, override, spot-estimate"),
    "began_at": _nullable("number", "When the server was ready, Unix seconds"),
    "ended_at": {"type": "number", "description": "When the session ended, Unix seconds"},
    "seconds": _nullable("number", "How long the session lasted, from ready to its end"),
    "end_reason": {"enum": [reason.value for reason in EndReason], "description": "Why the session ended"},
    "start_kind": {
        "enum": [kind.value for kind in StartKind],
        "description": "How much had to be brought for its start",
    },
    "start_seconds": _nullable("number", "How long the start took, from the click to the ready server"),
    "start_attempts": _nullable("integer", "How often the start was tried"),
    "stages": {
        "type": "array",
        "description": "The stages of the start in order; an earlier one after a later one begins another attempt",
        "items": {
            "type": "object",
            "required": ["stage", "seconds"],
            "properties": {"stage": {"type": "string"}, "seconds": {"type": "number"}},
        },
    },
    "busy_seconds": _nullable("number", "Seconds in which code ran or the GPU worked; null where nobody measured"),
    "idle_seconds": _nullable("number", "Seconds in which nothing ran; null where nobody measured"),
    "unknown_seconds": _nullable("number", "Seconds without a measurement; null where nobody measured at all"),
}


def schema() -> dict[str, object]:
    """Return the JSON Schema to register with JupyterHub's event logger."""
    return {
        "$id": SCHEMA_ID,
        "version": SCHEMA_VERSION,
        "title": "End of a GPU session",
        "description": "One event for each session that ended: who, on what machine, for how long, and why it ended.",
        "type": "object",
        "required": list(_PROPERTIES),
        "properties": {name: dict(words) for name, words in _PROPERTIES.items()},
    }


def event(end: SessionEnd) -> dict[str, object]:
    """Return the event's data, valid against the schema; what is unknown is null."""
    lasted = None if end.began_at is None else max(0.0, end.ended_at - end.began_at)
    start = end.start
    return {
        "user": end.user,
        "server": end.server,
        "groups": list(end.groups),
        "profile": end.profile_id or None,
        "pool": end.pool_id or None,
        "gpus": end.gpus,
        "instance_type": end.instance_type or None,
        "capacity_type": end.capacity_type or None,
        "zone": end.zone or None,
        "usd_per_hour": end.usd_per_hour,
        "price_source": end.price_source or None,
        "began_at": end.began_at,
        "ended_at": end.ended_at,
        "seconds": lasted,
        "end_reason": end.reason.value,
        "start_kind": (start.kind if start else StartKind.UNKNOWN).value,
        "start_seconds": start.seconds if start else None,
        "start_attempts": start.attempts if start else None,
        "stages": _stages(start),
        "busy_seconds": end.busy_s,
        "idle_seconds": end.idle_s,
        "unknown_seconds": end.unknown_s,
    }


def _stages(start: StartRecord | None) -> Sequence[dict[str, object]]:
    return [{"stage": time.stage.value, "seconds": time.seconds} for time in start.stages] if start else []
