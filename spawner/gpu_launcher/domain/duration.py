"""Lengths of time: what an admin writes, and what Karpenter reads."""

from __future__ import annotations

import re

_PARTS = re.compile(r"(?:([0-9]{1,5})d)?(?:([0-9]{1,7})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?", re.ASCII)
_LONGEST_S = 366 * 86400


class DurationError(ValueError):
    """Raised for text that is no duration; the message says what to write instead."""


def parse_duration(text: object) -> int:
    """Return whole seconds of ``"36h"``, ``"90m"``, ``"1h30m"``, ``"2d"`` or ``"45s"``; at most 366 days, more than 0.

    A bare number is refused: seconds, minutes and hours are all plausible. Raises DurationError.
    """
    remedy = 'write a duration such as "36h", "90m" or "45s"'
    match = _PARTS.fullmatch(text) if isinstance(text, str) else None
    if not match or not any(match.groups()):
        raise DurationError(f"{_shown(text)} is not a duration; {remedy}")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if not 0 < total <= _LONGEST_S:
        raise DurationError(f"{match[0]!r} is not between 1 second and 366 days; {remedy}")
    return total


def format_duration(seconds: int) -> str:
    """Return seconds as Go prints a duration: ``"36h0m0s"``, ``"1m30s"``, ``"45s"``; raises ValueError below 1 s.

    The only writer of ``karpenter.sh/do-not-disrupt`` durations: Karpenter ignores a value that Go cannot parse, and
    an ignored protection is a lost session.
    """
    if seconds < 1:
        raise ValueError(f"a duration of {seconds} s protects nothing; it must be at least 1 s")
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _shown(text: object) -> str:
    if isinstance(text, (str, float, bool)) or text is None:
        return repr(text)[:60]
    # An integer of a million digits must not be turned into text for an error message.
    small = isinstance(text, int) and abs(text) <= 10 * _LONGEST_S
    return f"{text} without a unit" if small else type(text).__name__
