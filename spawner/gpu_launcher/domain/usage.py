"""Who asks, and which GPUs are in use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Person:
    """A user: the name and the hub's groups."""

    name: str
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RunningServer:
    """One session that holds GPUs; ``name`` is "" for the default server, ``profile_id`` None if it is unknown."""

    name: str
    gpus: int
    profile_id: str | None = None
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Usage:
    """Sessions with GPUs, running or starting, without the one that is about to start.

    ``own`` are the person's, ``others`` everybody else's; names of others are never shown and may be left empty.
    """

    own: tuple[RunningServer, ...] = ()
    others: tuple[RunningServer, ...] = ()

    @property
    def total(self) -> int:
        """GPUs in use by everybody."""
        return sum(server.gpus for server in (*self.own, *self.others))
