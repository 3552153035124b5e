"""How long it still takes: published at first, then measured, wider keys where there is nothing nearer."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.domain.policy import ClusterPolicy
from gpu_launcher.domain.pool_state import LeadTime
from gpu_launcher.domain.stage import Stage, StartKind, StartOutcome
from gpu_launcher.explain.eta import (
    Eta,
    course,
    eta_words,
    priors,
    time_left,
    under,
    usual,
    wait_words,
    whole_start,
)
from gpu_launcher.explain.history import KEPT, WHOLE, History, Phase, Where
from gpu_launcher.explain.lifetimes import Lifetimes
from gpu_launcher.explain.story import Story, finish, next_attempt
from gpu_launcher.explain.wait import cold_start
from machines import TORCH
from stories import PUBLISHED, Found, begun, record, stories, told

COLD = Where(StartKind.COLD, "a10g-1")
BOOT, PULL, ANSWER = Stage.BOOTING, Stage.PULLING_IMAGE, Stage.SERVER_ANSWERING


def left(history: History, story: Story, now: float) -> Eta:
    eta = time_left(history, story, course(story.kind), now, PUBLISHED)
    assert eta is not None
    return eta


def test_before_anything_was_measured_published_figures_speak() -> None:
    warm = whole_start(History(), "a10g-1", StartKind.WARM, PUBLISHED)
    assert warm is not None
    assert (warm.p50_s, warm.p90_s) == pytest.approx((7.0, 10.6), rel=0.1)
    cold = whole_start(History(), "a10g-1", StartKind.COLD, PUBLISHED)
    assert cold is not None
    assert cold.p50_s == pytest.approx(cold_start(1, TORCH, ClusterPolicy()).seconds, rel=0.1)
    assert not cold.measured


def test_measured_starts_replace_the_published() -> None:
    starts = [record((BOOT, 90.0 + place), (PULL, 20), (ANSWER, 5)) for place in range(30)]
    history = History.of(starts)
    boot = usual(history, COLD, BOOT, PUBLISHED)
    assert (boot.count, boot.measured) == (30, True)
    assert boot.p50_s == pytest.approx(104, abs=3)
    assert boot.p90_s == pytest.approx(118, abs=4)
    eta = left(history, told((100, Found(BOOT))), 100)
    assert eta.p50_s == pytest.approx(104 + 25, abs=6)


def test_the_time_spent_counts() -> None:
    history = History.of(record((BOOT, seconds), (ANSWER, 5)) for seconds in [40.0] * 20 + [100.0] * 20)
    story = told((100, Found(BOOT)))
    assert left(history, story, 110).p50_s == pytest.approx(35, abs=5)
    # Whoever is still waiting after 50 s is one of those that take 100.
    assert left(history, story, 150).p50_s == pytest.approx(55, abs=5)


def test_an_overrun_says_so_and_still_estimates() -> None:
    history = History.of(record((BOOT, 40.0), (ANSWER, 5)) for _ in range(40))
    story = told((100, Found(BOOT)))
    assert not left(history, story, 141).overrun
    late = left(history, story, 400)
    assert late.overrun
    assert late.p50_s > 60
    assert eta_words(late).endswith("longer than usual")


def test_starts_that_were_given_up_count_for_the_time_they_lasted() -> None:
    ready = [record((BOOT, 30.0), (ANSWER, 5)) for _ in range(10)]
    given_up = [record((BOOT, 200.0), outcome=StartOutcome.STOPPED) for _ in range(10)]
    assert usual(History.of(ready), COLD, BOOT, PUBLISHED).p90_s < 100
    assert usual(History.of([*ready, *given_up]), COLD, BOOT, PUBLISHED).p90_s > 200
    assert usual(History.of(given_up), COLD, BOOT, PUBLISHED).count == 0


def test_an_attempt_that_failed_is_no_sample_of_a_finished_stage() -> None:
    again = record((Stage.QUEUED, 0), (BOOT, 300), (Stage.QUEUED, 0), (BOOT, 40), (ANSWER, 5))
    history = History.of([again])
    assert history.count(COLD, Phase(BOOT)) == 1
    assert history.count(COLD, Phase(BOOT, after=True)) == 1
    assert history.count(COLD, WHOLE) == 1


def test_the_nearest_starts_win_and_wider_ones_help_out() -> None:
    near = [record((BOOT, 80.0), (ANSWER, 5), zone="b", capacity="spot") for _ in range(40)]
    far = [record((BOOT, 40.0), (ANSWER, 5), zone="a", capacity="spot") for _ in range(40)]
    other = [record((BOOT, 20.0), (ANSWER, 5), pool="l4-1") for _ in range(40)]
    history = History.of([*near, *far, *other])

    def boot(*key: str) -> float:
        return usual(history, Where(StartKind.COLD, *key), BOOT, PUBLISHED).p50_s

    assert boot("a10g-1", "spot", "b") == 80
    assert boot("a10g-1", "spot", "a") == 40
    assert boot("l4-1") == 20
    # Nobody has started there: what holds for the pool, or for all.
    assert 40 <= boot("a10g-1", "spot", "c") <= 80
    assert boot("new-pool") == 40
    assert usual(history, Where(StartKind.WARM, "a10g-1"), BOOT, PUBLISHED).count == 0


@pytest.mark.parametrize(
    ("kind", "gpus", "stages"),
    [
        (StartKind.WARM, 1, ["queued", "scheduling", "starting", "server_answering"]),
        (StartKind.LUKEWARM, 1, ["queued", "scheduling", "pulling_image", "starting", "server_answering"]),
        (StartKind.UNKNOWN, 1, []),
    ],
)
def test_the_course_of_a_start(kind: StartKind, gpus: int, stages: list[str]) -> None:
    assert list(course(kind, gpus)) == stages


def test_only_a_start_with_gpus_waits_for_their_driver() -> None:
    assert set(course(StartKind.COLD, 1)) - set(course(StartKind.COLD, 0)) == {Stage.GPU_DRIVER}


def test_a_lead_time_that_the_controller_saw_replaces_the_published_one() -> None:
    seen = dict(priors(cold_start(1, TORCH, ClusterPolicy()), LeadTime(120, 200, 9)).seconds)
    assert seen[Stage.LAUNCHING] + seen[BOOT] + seen[Stage.GPU_DRIVER] == pytest.approx(120)
    wait = cold_start(1, TORCH, ClusterPolicy())
    assert priors(wait, LeadTime(0, 0, 0)) is priors(wait)


def test_an_unknown_kind_or_an_ended_start_has_no_estimate() -> None:
    assert whole_start(History(), "a10g-1", StartKind.UNKNOWN, PUBLISHED) is None
    assert time_left(History(), begun(kind=StartKind.UNKNOWN), (), 100, PUBLISHED) is None
    assert time_left(History(), finish(begun(), 110), (), 110, PUBLISHED) is None
    assert time_left(History(), next_attempt(begun(), "Trying on-demand", 110), (), 110, PUBLISHED) is None


def test_the_history_is_bounded_and_equal_by_its_records() -> None:
    one = record((BOOT, 40), (ANSWER, 5))
    full = History.of([one] * (KEPT + 5))
    full.lifetimes(COLD, WHOLE, Lifetimes())
    assert len(full.records) == len(full.add(one).records) == KEPT
    assert full == History.of([one] * KEPT)


def test_a_crowd_that_ends_at_once_is_learnt_from_together() -> None:
    one = record((BOOT, 40), (ANSWER, 5))
    history, late = History.of([one] * 300), 0
    for added in range(1, 100):
        history = history.add(one)
        late = max(late, 300 + added - history.count(COLD, WHOLE))
    assert 1 < late <= (300 + 100) / 30


def test_the_first_starts_count_at_once() -> None:
    history = History()
    for added in range(1, 20):
        history = history.add(record((BOOT, 40), (ANSWER, 5)))
        assert history.count(COLD, WHOLE) == added


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "1 s"), (8.2, "9 s"), (10.1, "15 s"), (31, "40 s"), (60, "60 s"), (61, "1:30"), (91, "2 min"), (265, "4:30")],
)
def test_a_bound_in_words_is_never_below_it(seconds: float, words: str) -> None:
    assert under(seconds) == words


@given(st.floats(0, 1e5))
def test_every_bound_in_words_holds(seconds: float) -> None:
    words = under(seconds)
    if ":" in words:
        minutes, rest = words.split(":")
        stated = int(minutes) * 60 + int(rest)
    else:
        stated = int(words.split()[0]) * (60 if words.endswith("min") else 1)
    assert stated >= math.floor(seconds)
    assert stated - seconds <= 31


def test_waits_in_words() -> None:
    assert eta_words(Eta(48, 85, measured=True)) == "about 50 s left (usually under 1:30)"
    assert eta_words(Eta(48, 85, measured=False)) == "about 50 s left (expected under 1:30)"
    assert wait_words(Eta(6, 8, measured=True)) == "about 6 s"
    assert wait_words(Eta(118, 170, measured=True)) == "about 2 min (usually under 3 min)"


@given(stories(), st.floats(0, 3000))
def test_whatever_happened_the_estimate_is_finite_and_in_order(story: Story, later: float) -> None:
    history = History.of([record((BOOT, 40), (ANSWER, 5)), record((BOOT, 70), outcome=StartOutcome.REFUSED)])
    eta = time_left(history, story, course(story.kind), story.current.began + later, PUBLISHED)
    if eta is not None:
        assert 0 <= eta.p50_s <= eta.p90_s < 1e6
