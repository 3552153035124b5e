"""What a pod asks of a machine, made once for all pods that ask the same, as a key for answers that they share.

Hundreds of starts look at the same lists of machines several times a second.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

from gpu_launcher.domain.resources import Resources
from gpu_launcher.domain.views import Expression, PodView, VolumeView

ZONE = "topology.kubernetes.io/zone"

Value = TypeVar("Value")
Term = tuple[Expression, ...]


class Same(Generic[Value]):
    """A value that equals only itself: a key that costs nothing to compare, and keeps its value alive.

    Only for values that never change, as views and tuples of them.
    """

    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value


@dataclass(frozen=True, slots=True)
class Shape:
    """Labels (any one of the terms, and all of ``extra``), amounts, and the keys of tolerated taints ("": all)."""

    terms: tuple[Term, ...]
    extra: Term
    requests: Resources
    tolerated: frozenset[str]

    def tolerates(self, taints: Iterable[str]) -> bool:
        """Return whether taints with these keys keep the pod away."""
        return "" in self.tolerated or all(key in self.tolerated for key in taints)


def shape_of(pod: PodView, volumes: Iterable[VolumeView] = ()) -> Same[Shape]:
    """Return the pod's shape; volumes that are bound to zones ask for those. Equal shapes are the same."""
    wishes = tuple(Expression(ZONE, "In", volume.zones) for volume in volumes if volume.zones)
    return _shape(Same(pod), wishes)


@lru_cache(maxsize=4096)
def _shape(pod: Same[PodView], extra: Term) -> Same[Shape]:
    view = pod.value
    exact = tuple(Expression(key, "In", (value,)) for key, value in sorted(view.node_selector.items()))
    # An empty term matches nothing; a pod without terms asks for nothing more.
    terms = tuple((*exact, *term) for term in view.node_affinity or ((),))
    return _one(Shape(terms, extra, view.requests, view.toleration_keys))


@lru_cache(maxsize=1024)
def _one(shape: Shape) -> Same[Shape]:
    return Same(shape)
