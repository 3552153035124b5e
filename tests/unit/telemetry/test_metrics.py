"""Metrics: closed labels, there from the first scrape, registered once."""

from __future__ import annotations

import importlib
from random import Random

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gpu_launcher.domain.outcomes import RefusalReason
from gpu_launcher.domain.stage import Stage, StartKind, StartOutcome
from gpu_launcher.domain.start import StageTime, StartRecord
from gpu_launcher.telemetry import metrics as module
from gpu_launcher.telemetry.metrics import StartMetrics, metrics


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def ended(profile: str = "a10g", outcome: StartOutcome = StartOutcome.READY, **more: object) -> StartRecord:
    stages = (StageTime(Stage.BOOTING, 41.0),)
    fields = {"reason": "", "began_at": 0.0, "seconds": 70.0, "stages": stages, **more}
    return StartRecord(profile, "a10g-1", StartKind.COLD, outcome, **fields)  # type: ignore[arg-type]


def series(registry: CollectorRegistry) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(one.name, tuple(sorted(one.labels.items()))) for family in families for one in family.samples}


def test_m2_every_series_is_there_before_the_first_event(registry: CollectorRegistry) -> None:
    metrics(["a10g", "l4"], registry)
    before = series(registry)
    value = registry.get_sample_value
    for profile in ("a10g", "l4", "unknown"):
        for outcome in StartOutcome:
            labels = {"profile": profile, "start": "cold", "outcome": outcome.value}
            assert value("gpu_launcher_spawn_duration_seconds_count", labels) == 0
        for stage in Stage:
            assert value("gpu_launcher_spawn_stage_seconds_count", {"profile": profile, "stage": stage.value}) == 0
        for reason in RefusalReason:
            labels = {"profile": profile, "reason": reason.value}
            assert value("gpu_launcher_start_refusals_total", labels) == 0
        assert value("gpu_launcher_eta_error_seconds_count", {"profile": profile}) == 0
        assert value("gpu_launcher_pods_lost_total", {"profile": profile}) == 0
    assert value("gpu_launcher_ignored_option_keys_total") == 0
    assert value("gpu_launcher_eta_starts_total", {"ended": "later"}) == 0
    found = metrics(["a10g", "l4"], registry)
    found.start_ended(ended(eta_p50_s=60.0, eta_p90_s=80.0))
    found.start_ended(ended(outcome=StartOutcome.REFUSED, reason="capacity"))
    found.pod_lost("l4")
    found.keys_ignored(3)
    assert series(registry) == before


def test_m1_ten_thousand_sessions_make_no_new_series(registry: CollectorRegistry) -> None:
    found = metrics(["a10g"], registry)
    before, random = series(registry), Random(1)  # noqa: S311 - it must repeat
    for place in range(10_000):
        name = f"user-{place}/pod-{random.random()}"
        outcome = random.choice([*StartOutcome])
        found.start_ended(ended(name, outcome, reason=name, zone=name, instance_type=name, eta_p50_s=1.0))
    found.start_refused("../../etc", RefusalReason.UNKNOWN_PROFILE)
    found.pod_lost('x"} 1')
    assert series(registry) == before
    labels = {"profile": "unknown", "reason": "unknown_profile"}
    assert registry.get_sample_value("gpu_launcher_start_refusals_total", labels) == 1


def test_m4_registering_again_returns_what_is_there(registry: CollectorRegistry) -> None:
    first = metrics(["a10g"], registry)
    first.start_ended(ended())
    assert metrics(["a10g"], registry) is first
    reloaded = importlib.reload(module)
    try:
        again = reloaded.metrics(["a10g", "h100"], registry)
    finally:
        importlib.reload(module)
    assert again is first
    labels = {"profile": "a10g", "start": "cold", "outcome": "ready"}
    assert registry.get_sample_value("gpu_launcher_spawn_duration_seconds_count", labels) == 1
    assert registry.get_sample_value("gpu_launcher_pods_lost_total", {"profile": "h100"}) == 0


def test_c10_a_profile_that_is_gone_counts_as_unknown(registry: CollectorRegistry) -> None:
    metrics(["old"], registry)
    found = metrics(["new"], registry)
    found.pod_lost("old")
    assert registry.get_sample_value("gpu_launcher_pods_lost_total", {"profile": "unknown"}) == 1
    assert registry.get_sample_value("gpu_launcher_pods_lost_total", {"profile": "old"}) == 0


@pytest.mark.parametrize(
    ("seconds", "p50", "p90", "where"),
    [(50, 60, 90, "before_p50"), (60, 60, 90, "before_p50"), (90, 60, 90, "before_p90"), (91, 60, 90, "later")],
)
def test_the_estimate_is_judged(
    registry: CollectorRegistry, seconds: float, p50: float, p90: float, where: str
) -> None:
    metrics(["a10g"], registry).start_ended(ended(seconds=seconds, eta_p50_s=p50, eta_p90_s=p90))
    assert registry.get_sample_value("gpu_launcher_eta_starts_total", {"ended": where}) == 1
    below = {"profile": "a10g", "le": "0.0"}
    assert registry.get_sample_value("gpu_launcher_eta_error_seconds_bucket", below) == (seconds <= p50)


def test_only_ready_starts_with_an_estimate_judge_it(registry: CollectorRegistry) -> None:
    found: StartMetrics = metrics(["a10g"], registry)
    found.start_ended(ended())
    found.start_ended(ended(outcome=StartOutcome.STOPPED, eta_p50_s=1.0, eta_p90_s=2.0))
    assert registry.get_sample_value("gpu_launcher_eta_error_seconds_count", {"profile": "a10g"}) == 0
