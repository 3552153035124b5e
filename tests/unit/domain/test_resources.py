"""Resources, images' names and hashes on labels."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.domain.identity import label_hash
from gpu_launcher.domain.image_reference import is_image_reference
from gpu_launcher.domain.profile import Profile, default_profile
from gpu_launcher.domain.resources import Resources

AMOUNTS = st.builds(Resources, *(st.integers(0, 10**6) for _ in range(4)))


@given(AMOUNTS, AMOUNTS)
def test_copies_fit_and_one_more_does_not(part: Resources, whole: Resources) -> None:
    if not any(part):
        with pytest.raises(ValueError, match="nothing is asked for"):
            part.copies_in(whole)
        return
    copies = part.copies_in(whole)
    assert min(whole - part.times(copies)) >= 0
    assert min(whole - part.times(copies + 1)) < 0


@given(AMOUNTS, st.integers(1, 64))
def test_n_parts_fit_the_whole(whole: Resources, n: int) -> None:
    assert min(whole - whole.divided_by(n).times(n)) >= 0


def test_dividing_by_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Resources(1).divided_by(0)


@given(AMOUNTS, AMOUNTS)
def test_a_difference_says_what_is_missing(one: Resources, other: Resources) -> None:
    assert one - other + other == one
    assert min(one - one.least(other)) >= 0


@given(st.text(max_size=200))
def test_o10_any_name_becomes_a_label_value_that_hides_it(name: str) -> None:
    value = label_hash(name)
    assert re.fullmatch(r"[a-z0-9]{1,63}", value)
    assert len(name) < 3 or name not in value


@pytest.mark.parametrize("name", ["A" * 200, "🦉" * 50, "\ud800", "a/b", "", "x\n"])
def test_o10_long_odd_and_broken_names_differ_and_fit(name: str) -> None:
    assert len(label_hash(name)) == 32
    assert label_hash(name) != label_hash(name + "a")


@pytest.mark.parametrize(
    "text",
    [
        "ubuntu",
        "quay.io/team/image:tag",
        "localhost:5000/a/b:1",
        "a/b@sha256:" + "0" * 64,
        "quay.io/jupyter/pytorch-notebook:cuda12-2026-11-02",
        "registry.example.org/a__b/c-d.e:v1_2",
    ],
)
def test_names_of_images(text: str) -> None:
    assert is_image_reference(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "a\n",
        "quay.io/team/image:tag\nx",
        "quay.io/../etc",
        "quay.io//a",
        "quаy.io/team/image",  # noqa: RUF001 - a Cyrillic letter
        "image:",
        "image@sha256:0",
        "{0.__class__}",
        "http://quay.io/a",
        "a" * 600,
        "-a",
        "a/",
    ],
)
def test_o4_what_is_no_name_of_an_image(text: str) -> None:
    assert not is_image_reference(text)


@pytest.mark.parametrize("text", ["a" * 512, "a-" * 255, "a." * 255 + "!", "A-" * 255, "a/" * 255, "0-" * 200 + "@"])
def test_o4_no_text_makes_the_check_slow(text: str) -> None:
    began = time.process_time()
    is_image_reference(text)
    assert time.process_time() - began < 0.05


def test_the_default_profile_is_marked_or_the_only_one() -> None:
    one, other = Profile("a", "A"), Profile("b", "B", default=True)
    assert default_profile((one,)) is one
    assert default_profile((one, other)) is other
    with pytest.raises(LookupError, match="no profile is marked"):
        default_profile((one, one))
