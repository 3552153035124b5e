"""Whether stated waits hold, on starts that repeat."""

from __future__ import annotations

from collections import Counter

from gpu_launcher.domain.stage import Stage, StartKind, StartOutcome
from gpu_launcher.explain.calibration import Share, calibrate
from gpu_launcher.explain.simulated import simulated_starts
from stories import PUBLISHED, record


def test_simulated_starts_repeat_and_hold_together() -> None:
    starts = [*simulated_starts(400, 1)]
    assert starts == [*simulated_starts(400, 1)]
    assert starts != [*simulated_starts(400, 2)]
    assert {one.outcome for one in starts} == set(StartOutcome) - {StartOutcome.FAILED}
    assert {one.kind for one in starts} == set(StartKind) - {StartKind.UNKNOWN}
    kinds = Counter(one.kind for one in starts)
    assert kinds[StartKind.WARM] > kinds[StartKind.COLD] > kinds[StartKind.LUKEWARM]
    for one in starts:
        assert abs(sum(time.seconds for time in one.stages) - one.seconds) < 1e-6
        assert one.attempts == max(1, sum(time.stage is Stage.QUEUED for time in one.stages))


def test_nine_of_ten_simulated_starts_end_before_the_stated_p90() -> None:
    found = calibrate([*simulated_starts(60, 2)], PUBLISHED)
    assert found.starts == found.whole.count == 60
    assert found.whole.kept
    assert found.left.kept
    assert 0.4 <= found.left.before_p50 <= 0.65


def test_starts_of_unknown_kind_were_told_nothing() -> None:
    found = calibrate([record((Stage.QUEUED, 1), kind=StartKind.UNKNOWN)], PUBLISHED)
    assert (found.starts, found.ready, found.whole) == (1, 1, Share(0, 0.0, 0.0))


def test_each_start_is_told_only_what_was_known_before_it() -> None:
    # Ten times as slow as published, all alike: the first cannot know, the last must.
    slow = [record((Stage.BOOTING, 2000.0), (Stage.SERVER_ANSWERING, 50.0)) for _ in range(12)]
    assert calibrate(slow[:1], PUBLISHED).whole.before_p90 == 0
    assert calibrate(slow, PUBLISHED).whole.before_p90 > 0.8
