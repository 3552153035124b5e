"""Records go out as JSON and come back the same; what is no record comes back as nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.domain.stage import Stage, StartKind, StartOutcome
from gpu_launcher.domain.start import StageTime, StartRecord
from gpu_launcher.telemetry.records import dump_record, load_record, log_line, record_data, record_from, record_in

_MILLISECONDS = st.integers(0, 10**9).map(lambda value: value / 1000)
_NAME = st.from_regex(r"[a-z0-9.-]{1,20}", fullmatch=True)
_PRICE = st.none() | st.floats(0, 1000)
_RECORDS = st.builds(
    StartRecord,
    profile_id=_NAME,
    pool_id=_NAME,
    kind=st.sampled_from(StartKind),
    outcome=st.sampled_from(StartOutcome),
    reason=st.just("") | _NAME,
    began_at=_MILLISECONDS,
    seconds=_MILLISECONDS,
    stages=st.lists(st.builds(StageTime, st.sampled_from(Stage), _MILLISECONDS), max_size=12).map(tuple),
    attempts=st.integers(1, 9),
    capacity_type=st.just("") | _NAME,
    zone=st.just("") | _NAME,
    instance_type=st.just("") | _NAME,
    usd_per_hour=_PRICE,
    eta_p50_s=_PRICE,
    eta_p90_s=_PRICE,
    config_hash=st.just("") | _NAME,
    detail=st.dictionaries(_NAME, _NAME, max_size=3),
)
ONE = StartRecord(
    "a10g",
    "a10g-1",
    StartKind.COLD,
    StartOutcome.REFUSED,
    "capacity",
    1_700_000_000.0,
    250.0,
    (StageTime(Stage.QUEUED, 2.0), StageTime(Stage.FINDING_CAPACITY, 248.0)),
)


@given(_RECORDS)
def test_a_record_comes_back(record: StartRecord) -> None:
    assert load_record(dump_record(record)) == record
    assert record_in(f"[I 2026-11-23 12:00:00 hub] reference=k3x9ab {log_line(record)}\n") == record
    assert record_in(dump_record(record)) == record
    assert "\n" not in log_line(record)


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(record_data(ONE))), _JSON)
def test_anything_posted_is_a_record_or_nothing(field: str, value: object) -> None:
    found = record_from({**record_data(ONE), field: value})
    if found is not None:
        # A record that was let in can be written again, by JSON's own rules.
        json.dumps(record_data(found), allow_nan=False)
        assert found.seconds >= 0


@pytest.mark.parametrize(
    "raw",
    [
        None,
        5,
        [],
        {},
        {"version": 2},
        {**record_data(ONE), "seconds": float("nan")},
        {**record_data(ONE), "kind": "hot"},
    ],
)
def test_what_is_no_record_is_none(raw: object) -> None:
    assert record_from(raw) is None


@pytest.mark.parametrize(
    "line", ["", "started", "gpu-launcher start record ", "gpu-launcher start record {", "{" * 9999]
)
def test_other_lines_of_a_log_are_passed_over(line: str) -> None:
    assert record_in(line) is None


def test_lists_and_texts_are_bounded() -> None:
    assert record_from({**record_data(ONE), "stages": [["queued", 1.0]] * 1000}) is None
    assert record_from({**record_data(ONE), "stages": [["queued", 1.0], ["nonsense", 2.0]]}) is None
    big = record_from({**record_data(ONE), "zone": "z" * 10_000, "detail": {str(n): "v" for n in range(1000)}})
    assert big is not None
    assert len(big.zone) == 300
    assert len(big.detail) == 20
