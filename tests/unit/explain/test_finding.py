"""Times, lists and foreign texts in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.explain.finding import listed, one_line, spelled


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-3, "0 s"), (0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (60, "1 min"), (250, "4 min 10 s"), (7200, "120 min")],
)
def test_a_time_that_has_passed(seconds: float, words: str) -> None:
    assert spelled(seconds) == words


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), ""),
        (("a",), "a"),
        (("a", "b"), "a and b"),
        (("a", "b", "c"), "a, b and c"),
        (("a", "b", "c", "d", "e", "f"), "a, b, c, d and 2 more"),
    ],
)
def test_a_list(names: tuple[str, ...], words: str) -> None:
    assert listed(names) == words


@given(st.text(max_size=500))
def test_a_foreign_text_is_one_short_line(text: str) -> None:
    line = one_line(text, 100)
    assert len(line) <= 100
    assert line == line.strip()
    assert line.isprintable()
