"""Whose session a pod is, in values that are safe on labels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


def label_hash(text: str) -> str:
    """Return a label value for any text: 32 hex digits that never show the text.

    User and server names may hold 200 characters, emoji and capitals; a label holds 63 of a small alphabet.
    """
    # surrogatepass: JSON can carry half an emoji, which must not become an exception.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class SessionIdentity:
    """Whose session it is: the launcher's instance (a label value), hashes of user and server, the settings' hash.

    ``groups`` are the person's groups at the start, for the bill.
    """

    instance: str
    user_hash: str
    server_hash: str
    config_hash: str
    groups: tuple[str, ...] = ()
