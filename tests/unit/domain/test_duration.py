"""Durations: read strictly, written as Go reads them (row C11)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.domain.duration import DurationError, format_duration, parse_duration
from gpu_launcher.domain.profile import ProfileLimits
from gpu_launcher.planning.protection import protection_of

# Go's time.ParseDuration, as far as whole units go.
GO = re.compile(r"([0-9]+(h|m|s))+")
UNITS = {"h": 3600, "m": 60, "s": 1}


@given(st.integers(1, 366 * 86400))
def test_c11_every_typed_duration_is_gos_and_means_the_same(seconds: int) -> None:
    text = format_duration(seconds)
    assert GO.fullmatch(text)
    assert sum(int(n) * UNITS[unit] for n, unit in re.findall(r"([0-9]+)([hms])", text)) == seconds
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(129600, "36h0m0s"), (90, "1m30s"), (45, "45s"), (3600, "1h0m0s"), (60, "1m0s"), (3661, "1h1m1s")],
)
def test_c11_durations_look_as_go_prints_them(seconds: int, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize("seconds", [0, -1])
def test_c11_nothing_shorter_than_a_second_is_written(seconds: int) -> None:
    with pytest.raises(ValueError, match="protects nothing"):
        format_duration(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "4 hours",
        "P1D",
        "0s",
        "0h",
        "",
        "36",
        36,
        36.0,
        True,
        None,
        "1h ",
        "-1h",
        "1.5h",
        "1s1h",
        "\uff11h",
        "1e3s",
        "400d",
        "9999999h",
        [],
    ],
)
def test_c11_what_is_no_duration_is_refused_with_a_remedy(text: object) -> None:
    with pytest.raises(DurationError, match="; write a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("36h", 129600), ("90m", 5400), ("1h30m", 5400), ("2d", 172800), ("45s", 45)]
)
def test_durations_that_people_write(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


def test_c11_protection_is_true_or_the_maximum_age() -> None:
    assert protection_of(ProfileLimits()) == "true"
    assert protection_of(ProfileLimits(max_age_s=129600)) == "36h0m0s"
