"""What a session asks for and what a host has to give, in exact integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resources:
    """CPU in millicores, memory and ephemeral storage in bytes, whole GPUs.

    A difference may be negative: it says how much is missing.
    """

    cpu_m: int = 0
    memory: int = 0
    ephemeral: int = 0
    gpus: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def __sub__(self, other: Resources) -> Resources:
        return Resources(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))

    def __iter__(self) -> Iterator[int]:
        return iter((self.cpu_m, self.memory, self.ephemeral, self.gpus))

    def times(self, n: int) -> Resources:
        """Return *n* copies together."""
        return Resources(*(amount * n for amount in self))

    def divided_by(self, n: int) -> Resources:
        """Return the n-th part, every amount rounded down; raises ValueError unless n >= 1."""
        if n < 1:
            raise ValueError(f"cannot divide a host into {n} parts; n must be at least 1")
        return Resources(*(amount // n for amount in self))

    def copies_in(self, other: Resources) -> int:
        """Return how many copies fit in the other; an amount of 0 does not limit. Raises ValueError if all are 0."""
        limits = [theirs // mine for mine, theirs in zip(self, other, strict=True) if mine > 0]
        if not limits:
            raise ValueError("nothing is asked for, so any number fits")
        return max(0, min(limits))

    def least(self, other: Resources) -> Resources:
        """Return the smaller of each amount: what both can give."""
        return Resources(*(min(mine, theirs) for mine, theirs in zip(self, other, strict=True)))
