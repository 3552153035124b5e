"""The state's ConfigMap: what is written is read, and anything else is unknown."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.cluster.state import is_current, state_document, state_of
from gpu_launcher.domain.pool_state import LeadTime, PoolState, PublishedState

POOL = PoolState(
    pool_id="a10g-1",
    ready={"": 2, "quay.io/team/torch:1": 1},
    starting=1,
    in_use=3,
    usd_per_hour=1.006,
    usd_per_hour_spot=0.4,
    lead=LeadTime(61.0, 95.5, 12),
    no_capacity_since=1_000.5,
    unavailable="the limit of NodePool gpu is reached",
)
STATE = PublishedState(1_700_000_000.25, "0123456789ab", {"a10g-1": POOL, "cpu": PoolState("cpu")}, ("nodeclaims",))


def document(state: PublishedState = STATE) -> dict[str, Any]:
    return state_document(state, namespace="jupyter", name="gpu-launcher-state")


def changed(**changes: Any) -> dict[str, Any]:
    """The ConfigMap with parts of its JSON replaced; ``...`` takes a part away."""
    data = json.loads(document()["data"]["state.json"]) | changes
    kept = {key: value for key, value in data.items() if value is not ...}
    return {"data": {"state.json": json.dumps(kept)}}


def test_what_is_written_is_read() -> None:
    raw = document()
    assert raw["metadata"] == {"name": "gpu-launcher-state", "namespace": "jupyter"}
    assert state_of(json.loads(json.dumps(raw))) == STATE


def test_the_same_state_is_the_same_text() -> None:
    turned = PublishedState(STATE.observed_at, STATE.config_hash, dict(reversed(STATE.pools.items())), STATE.unknown)
    assert document(turned) == document()


@pytest.mark.parametrize(
    "raw",
    [
        None,
        {},
        {"data": None},
        {"data": {"state.json": None}},
        {"data": {"state.json": "{"}},
        {"data": {"state.json": "[" * 100_000}},
        {"data": {"state.json": "[]"}},
        changed(version=2),
        changed(version=...),
        changed(observed_at=...),
        changed(observed_at="now"),
        changed(observed_at=True),
        changed(observed_at=10**400),
        changed(config_hash=7),
        changed(pools=[]),
        changed(pools=...),
    ],
)
def test_anything_else_is_unknown(raw: object) -> None:
    assert state_of(raw) is None


@pytest.mark.parametrize(
    "pool",
    [None, [], {}, {"ready": {}, "starting": -1, "in_use": 0}, {"ready": 3, "starting": 0, "in_use": 0}],
)
def test_a_malformed_pool_is_unknown_and_the_others_are_not(pool: object) -> None:
    found = state_of(changed(pools={"a": pool, "b": {"ready": {}, "starting": 0, "in_use": 1}}))
    assert found is not None
    assert set(found.pools) == {"b"}


def test_malformed_parts_of_a_pool_are_left_out() -> None:
    odd = {"ready": {"": 1, "x": True}, "starting": 0, "in_use": 0, "usd_per_hour": math.inf, "lead": {"p50_s": 1}}
    found = state_of(changed(pools={"a": odd | {"unavailable": 3}}, unknown="nodes"))
    assert found is not None
    assert found.pools["a"] == PoolState("a", {"": 1})
    assert found.unknown == ()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, st.sampled_from(["observed_at", "config_hash", "pools", "unknown", "version"]))
def test_no_content_raises(value: object, key: str) -> None:
    state_of(changed(**{key: value}))
    state_of(changed(pools={"a": value}))
    state_of(value)


@pytest.mark.parametrize(("age", "expected"), [(0, True), (30, True), (31, False), (-5, True), (-60, False)])
def test_a_state_older_than_three_intervals_says_nothing(age: float, expected: bool) -> None:
    assert is_current(STATE, STATE.observed_at + age) is expected
