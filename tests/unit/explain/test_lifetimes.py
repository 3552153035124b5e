"""Distributions of times: Kaplan-Meier by hand, and laws that hold whatever was seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.explain.lifetimes import Lifetimes, Observation, guessed, observed, total, within

_SECONDS = st.floats(0, 1e6, allow_subnormal=False)
_SEEN = st.lists(st.builds(Observation, _SECONDS, st.booleans()), min_size=1, max_size=15)


def seen(*seconds: float, cut: tuple[float, ...] = ()) -> Lifetimes:
    return observed([*(Observation(one) for one in seconds), *(Observation(one, ended=False) for one in cut)])


def test_a_time_that_was_cut_short_passes_its_weight_on() -> None:
    # By hand: 1 of 4 ends at 10; the one cut at 15 leaves its quarter to the two that went on.
    curve = seen(10, 20, 30, cut=(15,))
    assert [point for point in curve.points if point[0] <= 30] == [(10, 1.0), (20, 1.5), (30, 1.5)]


@pytest.mark.parametrize(
    ("ended", "cut", "bound", "part"),
    [
        ((10, 20, 30, 40), (), 20, 0.5),
        ((10, 20), (15, 15), 15, 0.25),
        ((10,), (), 9, 0.0),
        ((), (5, 5), 5, 0.0),
        ((), (), 5, 0.0),
    ],
)
def test_the_part_within_a_bound(ended: tuple[float, ...], cut: tuple[float, ...], bound: float, part: float) -> None:
    observations = [*(Observation(one) for one in ended), *(Observation(one, ended=False) for one in cut)]
    assert within(observations, bound) == pytest.approx(part)


def test_ignoring_those_who_gave_up_would_promise_too_much() -> None:
    patient = seen(*[10.0] * 11, *[100.0] * 10, cut=(50.0,) * 20)
    assert seen(*[10.0] * 11, *[100.0] * 10).quantile(0.5) == 10
    assert patient.quantile(0.5) == 100


def test_what_is_left_depends_on_what_is_spent() -> None:
    curve = seen(*range(10, 110, 10))
    assert curve.left(0) is curve
    assert curve.left(55).quantile(0.5) == 25
    assert curve.left(55).points[0] == (5.0, 1.0)


def test_beyond_everything_seen_the_wait_grows_with_the_time_spent() -> None:
    curve = seen(*[10.0] * 20)
    late, later = curve.left(100), curve.left(1000)
    assert 0 < late.quantile(0.5) < late.quantile(0.9)
    assert later.quantile(0.5) > 5 * late.quantile(0.5)


def test_nothing_is_known_of_nothing() -> None:
    assert Lifetimes().quantile(0.9) == 0
    assert total([]) == Lifetimes()
    assert observed([]) == Lifetimes()
    assert set(Lifetimes().grid) == {0.0}
    assert Lifetimes().blended(seen(3), 2) == seen(3)


def test_a_guess_is_worth_one_start_around_its_middle() -> None:
    guess = guessed(40)
    assert guess.weight == pytest.approx(1)
    assert guess.quantile(0.5) == pytest.approx(40, rel=0.05)
    assert 1.5 < guess.quantile(0.9) / 40 < 2
    assert guessed(0).quantile(0.99) == 0


def test_own_times_outweigh_wider_ones_as_they_come() -> None:
    wide = seen(*[100.0] * 50)
    few, many = wide.blended(seen(10), 2.0), wide.blended(seen(*[10.0] * 50), 2.0)
    assert few.quantile(0.9) >= 100
    assert many.quantile(0.9) == 10


def test_a_sum_is_narrower_than_the_sum_of_its_bounds() -> None:
    part = guessed(60)
    whole = total([part] * 5)
    assert whole.quantile(0.5) == pytest.approx(5 * 65, rel=0.05)
    assert whole.quantile(0.9) < 0.85 * 5 * part.quantile(0.9)
    assert total([part, guessed(0)]).quantile(0.9) == pytest.approx(part.quantile(0.9), rel=0.05)


@given(_SEEN, st.floats(0, 1e6))
def test_quantiles_ascend_and_no_weight_is_lost(observations: list[Observation], spent: float) -> None:
    curve = observed(observations)
    # Of the starts themselves, and half of one for what nobody saw yet.
    assert curve.weight == pytest.approx(len(observations) + 0.5)
    left = curve.left(spent)
    for one in (curve, left, total([curve, left])):
        values = [one.quantile(part / 10) for part in range(11)]
        assert values == sorted(values)
        assert values[0] >= 0
        assert list(one.points) == sorted(one.points)


@given(_SEEN, _SECONDS)
def test_a_cut_never_shortens_the_wait(observations: list[Observation], bound: float) -> None:
    last = max(one.seconds for one in observations)
    if bound < last:
        longer = within([*observations, Observation(last, ended=False)], bound)
        assert longer <= within(observations, bound) + 1e-9
