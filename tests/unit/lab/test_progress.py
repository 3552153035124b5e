"""The time left: from measured weights, rescaled by the speed seen so far."""

from __future__ import annotations

import io

import pytest

from gpu_launcher.lab.progress import Display, Pace, Step, words

STEPS = [Step("a", 60), Step("b", 240), Step("c", 30)]


def test_before_anything_is_known_the_weights_count() -> None:
    assert Pace(list(STEPS)).left() == 330


def test_what_was_twice_as_slow_makes_the_rest_twice_as_long() -> None:
    pace = Pace(list(STEPS))
    pace.done(STEPS[0], 120)
    assert pace.factor() == 2
    assert pace.left() == 540
    assert pace.left(STEPS[1], elapsed=100) == 440


def test_a_fast_machine_needs_less() -> None:
    pace = Pace(list(STEPS))
    pace.done(STEPS[0], 15)
    assert pace.left() == pytest.approx(270 / 4)


def test_a_step_that_overruns_rescales_at_once_and_is_never_over() -> None:
    pace = Pace(list(STEPS))
    lefts = [pace.left(STEPS[0], elapsed) for elapsed in (0, 30, 60, 90, 120)]
    assert lefts[:3] == [330, 300, 276]
    assert lefts[4] > lefts[2]
    assert pace.left(STEPS[2], 10_000) > 0


def test_a_skipped_step_is_no_speed() -> None:
    pace = Pace(list(STEPS))
    pace.skip(STEPS[1])
    assert (pace.factor(), pace.left()) == (1, 90)


def test_without_steps_nothing_is_left() -> None:
    assert Pace([]).left() == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "5 s"), (42, "40 s"), (89, "90 s"), (100, "about 2 min"), (610, "about 10 min")]
)
def test_words_are_as_coarse_as_the_estimate(seconds: float, text: str) -> None:
    assert words(seconds) == text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(stream: io.StringIO, seconds: int) -> str:
    now = 0.0
    display = Display(STEPS, stream, clock=lambda: now)
    display.start(STEPS[0])
    for _ in range(seconds * 5):
        now += 0.2
        display.tick("runtime")
    display.finish()
    display.start(STEPS[1])
    display.close()
    return stream.getvalue()


def test_a_log_gets_a_line_per_step_and_one_every_30_s() -> None:
    lines = run(io.StringIO(), 65).splitlines()
    assert lines == [
        "[1/3] a, about 6 min left",
        "[1/3] a, about 5 min left (runtime)",
        "[1/3] a, about 5 min left (runtime)",
        "[2/3] b, about 5 min left",
    ]


def test_a_terminal_gets_one_live_line() -> None:
    output = run(Terminal(), 2)
    assert "\n" not in output
    assert output.startswith("\r\x1b[K[1/3] a")
    assert output.endswith("\r\x1b[K")
