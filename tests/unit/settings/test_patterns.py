"""Regular expressions that may take for ever on users' text (row O4)."""

from __future__ import annotations

import re

import pytest

from gpu_launcher.settings.patterns import repeats_what_varies


@pytest.mark.parametrize(
    "pattern",
    [
        r"([a-z]+)+:b",
        r"(?:a*)*",
        r"((a+)b)*",
        r"((?:x(y{1,9}))z)+",
        r"(a+){2,}",
        r"(a+){20}",
        r"(a{2,3}){,5}",
        r"(a|aa)+",
        r"(a?a)+",
        r"(?P<x>[^)]+)*",
        r"([])]+)+",
        r"(\)+)+",
        r"(a+)+?",
        r"(a+)++",
        r"(?x)(a+) +",
    ],
)
def test_o4_a_repeated_group_that_varies_is_found(pattern: str) -> None:
    assert re.compile(pattern)
    assert repeats_what_varies(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        r"quay\.io/team/.+",
        r"quay\.io/team/[a-z0-9./-]+:.+",
        r"(quay\.io|ghcr\.io)/team/.+",
        r"(?:team/)?x.*",
        r"([0-9]{4}-)+",
        r"(a+)?b+",
        r"(a+){1}",
        r"(a+){0,1}",
        r"(a\+)+",
        r"\(a+\)+",
        r"[(a+)]+",
        r"[(]a+[)]+",
        r"a{}+b",
    ],
)
def test_o4_other_patterns_are_not(pattern: str) -> None:
    assert re.compile(pattern)
    assert not repeats_what_varies(pattern)
