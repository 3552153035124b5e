"""The published state as a ConfigMap: written whole by the controller, read without trust by the hub."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from gpu_launcher.domain.pool_state import LeadTime, PoolState, PublishedState

PUBLISH_EVERY_S = 10.0
"""The controller renews the state at least this often, also when nothing changed."""

# Three missed renewals. Less and a slow write shows users "wait unknown"; more and they plan on what is long gone.
_STALE_S = 3 * PUBLISH_EVERY_S
# Clocks of two machines differ a little; a state from further in the future has no known age.
_AHEAD_S = 10.0

_KEY = "state.json"
_VERSION = 1


def is_current(state: PublishedState, now: float) -> bool:
    """Return whether the state is young enough to be believed; an older one says nothing."""
    return -_AHEAD_S <= now - state.observed_at <= _STALE_S


def state_document(state: PublishedState, *, namespace: str, name: str) -> dict[str, Any]:
    """Return the ConfigMap, for server-side apply; it names only what the controller owns."""
    data = {
        "version": _VERSION,
        "observed_at": round(state.observed_at, 3),
        "config_hash": state.config_hash,
        "unknown": list(state.unknown),
        "pools": {key: _written(pool) for key, pool in sorted(state.pools.items())},
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {_KEY: json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)},
    }


def state_of(raw: object) -> PublishedState | None:
    """Return the state in a raw ConfigMap; None for none, for another version, and for anything malformed.

    A pool that is malformed is left out, which is to say unknown.
    """
    try:
        data = json.loads(raw["data"][_KEY])  # type: ignore[index]
        if data["version"] != _VERSION:
            return None
        observed_at = _number(data["observed_at"])
        config_hash, unknown, pools = data["config_hash"], data.get("unknown", []), data["pools"]
    except (TypeError, KeyError, ValueError, RecursionError):
        return None
    if observed_at is None or not isinstance(config_hash, str) or not isinstance(pools, dict):
        return None
    found = {key: pool for key, value in pools.items() if (pool := _read(key, value))}
    names = tuple(name for name in unknown if isinstance(name, str)) if isinstance(unknown, list) else ()
    return PublishedState(observed_at, config_hash, found, names)


def _written(pool: PoolState) -> dict[str, Any]:
    lead = pool.lead
    facts: dict[str, Any] = {
        "ready": dict(sorted(pool.ready.items())),
        "starting": pool.starting,
        "in_use": pool.in_use,
        "usd_per_hour": pool.usd_per_hour,
        "usd_per_hour_spot": pool.usd_per_hour_spot,
        "lead": {"p50_s": lead.p50_s, "p90_s": lead.p90_s, "count": lead.count} if lead else None,
        "no_capacity_since": pool.no_capacity_since,
        "unavailable": pool.unavailable,
    }
    return {key: value for key, value in facts.items() if value not in (None, "")}


def _read(pool_id: str, value: object) -> PoolState | None:
    if not isinstance(value, Mapping):
        return None
    starting, in_use, ready = _count(value.get("starting")), _count(value.get("in_use")), value.get("ready")
    if starting is None or in_use is None or not isinstance(ready, Mapping):
        return None
    counts = {str(image): count for image, number in ready.items() if (count := _count(number)) is not None}
    unavailable = value.get("unavailable", "")
    return PoolState(
        pool_id=pool_id,
        ready=counts,
        starting=starting,
        in_use=in_use,
        usd_per_hour=_number(value.get("usd_per_hour")),
        usd_per_hour_spot=_number(value.get("usd_per_hour_spot")),
        lead=_lead(value.get("lead")),
        no_capacity_since=_number(value.get("no_capacity_since")),
        unavailable=unavailable if isinstance(unavailable, str) else "",
    )


def _lead(value: object) -> LeadTime | None:
    if not isinstance(value, Mapping):
        return None
    p50, p90, count = _number(value.get("p50_s")), _number(value.get("p90_s")), _count(value.get("count"))
    return None if p50 is None or p90 is None or not count else LeadTime(p50, p90, count)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _number(value: object) -> float | None:
    """A finite number of 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
