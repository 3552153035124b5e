"""What a user asked for, after parsing: ids and bounded numbers only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A parsed request for a session.

    ``image_id`` names a listed image (None: the profile's first), ``image_reference`` an unlisted one that the
    profile's pattern allows; at most one of them is set. ``ignored_keys`` counts what was not understood, ``notice``
    tells the user what was changed in saved options (None: nothing). ``fallback`` is the consent to another profile, or
    to spot, where there is no machine for this one.
    """

    profile_id: str
    image_id: str | None = None
    image_reference: str | None = None
    gpus: int = 0
    spot: bool = False
    ignored_keys: int = 0
    notice: str | None = None
    fallback: bool = False
