"""Values from JSON that anybody may have written: the wanted type, or a harmless default."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

_Member = TypeVar("_Member", bound=StrEnum)


def json_object(text: object) -> Mapping[str, object] | None:
    """Return the JSON object in a text; None for anything else, whatever its depth or size of numbers."""
    if not isinstance(text, str | bytes):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def number(value: object) -> float | None:
    """Return a finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        converted = float(value)
    except OverflowError:
        return None
    return converted if math.isfinite(converted) else None


def duration(value: object) -> float | None:
    """Return seconds, never negative; None for anything that is no finite number."""
    seconds = number(value)
    return None if seconds is None else max(0.0, seconds)


def text(value: object, longest: int = 300) -> str:
    """Return a text of one line, cut to that many characters; "" for anything else."""
    return " ".join(value.split())[:longest] if isinstance(value, str) else ""


def texts(value: object, most: int = 20) -> tuple[str, ...]:
    """Return the texts of a list, empty ones and those over *most* left out; () for anything else."""
    if not isinstance(value, list | tuple):
        return ()
    return tuple(found for found in map(text, value) if found)[:most]


def member(kind: type[_Member], value: object) -> _Member | None:
    """Return the member of a closed set that a text names; None for anything else."""
    return next((one for one in kind if one == value), None) if isinstance(value, str) else None
