"""A watched list as parsed views, each parsed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from gpu_launcher.cluster.api import KubeApi, Raw
from gpu_launcher.cluster.informer import Informer, Key

View = TypeVar("View")
OnChange = Callable[[str, View], None]

# The server sends a bookmark about once a minute; three missed ones, and the list may be wrong.
STALE_S = 180.0


class Viewed(Generic[View]):
    """The objects at ``path`` as views; what cannot be parsed is left out.

    ``on_change`` gets ("ADDED" | "MODIFIED" | "DELETED", view) in order; it must not block.
    """

    def __init__(
        self,
        api: KubeApi,
        path: str,
        parse: Callable[[Raw], View | None],
        on_change: OnChange[View] | None = None,
        **query: object,
    ) -> None:
        self.informer = Informer(api, path, **query)
        self._parse = parse
        self._on_change = on_change
        self._views: dict[Key, View] = {}
        self._all: tuple[View, ...] | None = None
        self.informer.subscribe(self._changed)

    def get(self, namespace: str, name: str) -> View | None:
        """Return one view; None if there is no such object, or none is known."""
        return self._views.get((namespace, name))

    def all(self) -> tuple[View, ...] | None:
        """Return every view; None while the list is unknown: not read yet, not allowed, or too old."""
        age = self.informer.age()
        if age is None or age > STALE_S:
            return None
        if self._all is None:
            self._all = tuple(self._views.values())
        return self._all

    def _changed(self, kind: str, raw: Raw) -> None:
        metadata = raw.get("metadata") or {}
        key = (str(metadata.get("namespace") or ""), str(metadata.get("name") or ""))
        # Of an object that went while nobody watched, the informer may have kept no more than the name.
        forgotten = kind == "DELETED" and set(raw) == {"metadata"}
        view = self._views.get(key) if forgotten else self._parse(raw)
        self._all = None
        if kind == "DELETED" or view is None:
            self._views.pop(key, None)
        else:
            self._views[key] = view
        if view is not None and self._on_change is not None:
            self._on_change(kind, view)
