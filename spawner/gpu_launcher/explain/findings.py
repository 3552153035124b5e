"""Findings: what an admin should know about a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is. An error means that the profile cannot start, a note that something is not known."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that an admin should know: a stable code, and plain words with the remedy."""

    level: Level
    code: str
    text: str
