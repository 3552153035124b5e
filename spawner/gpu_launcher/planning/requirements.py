"""Label requirements: whether a node's labels fulfil them, and whether two sets of them leave a common machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpu_launcher.domain.views import Expression

# Labels that Karpenter and the clouds give to machines by themselves: not being named in a NodePool allows any value.
_WELL_KNOWN_DOMAINS = (
    "karpenter.sh",
    "karpenter.k8s.aws",
    "eks.amazonaws.com",
    "karpenter.azure.com",
    "karpenter.kwok.sh",
    "kubernetes.azure.com",
    "cloud.google.com",
    "node.kubernetes.io",
    "topology.kubernetes.io",
    "topology.k8s.aws",
    "kubernetes.io",
)


@dataclass(frozen=True, slots=True)
class _Values:
    """The values that a label may have: those of ``named``, or with ``others`` any but those, between the bounds."""

    named: frozenset[str]
    others: bool
    above: int | None = None
    below: int | None = None
    absent: bool = False
    """Whether the label may also be missing."""

    def meet(self, other: _Values) -> _Values:
        above = max((bound for bound in (self.above, other.above) if bound is not None), default=None)
        below = min((bound for bound in (self.below, other.below) if bound is not None), default=None)
        absent = self.absent and other.absent
        if self.others and other.others:
            return _Values(self.named | other.named, True, above, below, absent)
        if self.others or other.others:
            listed, left_out = (other, self) if self.others else (self, other)
            return _Values(listed.named - left_out.named, False, above, below, absent)
        return _Values(self.named & other.named, False, above, below, absent)

    @property
    def possible(self) -> bool:
        """Whether anything is left."""
        if self.absent:
            return True
        if self.others:
            return self.above is None or self.below is None or self.above + 1 < self.below
        return any(self.allows(value) for value in self.named)

    def allows(self, value: str) -> bool:
        """Whether a label of this value is among them."""
        if (value in self.named) is self.others:
            return False
        if self.above is None and self.below is None:
            return True
        number = _integer(value)
        if number is None:
            return False
        return (self.above is None or number > self.above) and (self.below is None or number < self.below)


def fulfilled(wanted: Iterable[Expression], labels: Mapping[str, str]) -> bool:
    """Return whether a node with these labels meets every expression."""
    return all(_fulfils(_values(one), labels.get(one.key)) for one in wanted)


def overlap(wanted: Iterable[Expression], offered: Iterable[Expression]) -> bool:
    """Return whether some machine meets both, by Karpenter's rule for labels that only one of them names.

    A label that is not *offered* may have any value if a cloud or Karpenter sets it; a label of the site's own does not
    exist then.
    """
    theirs = _by_key(offered)
    for key, mine in _by_key(wanted).items():
        if key not in theirs:
            if not (mine.absent or _well_known(key)):
                return False
        elif not mine.meet(theirs[key]).possible:
            return False
    return True


def _by_key(expressions: Iterable[Expression]) -> dict[str, _Values]:
    found: dict[str, _Values] = {}
    for one in expressions:
        values = _values(one)
        found[one.key] = found[one.key].meet(values) if one.key in found else values
    return found


def _values(one: Expression) -> _Values:
    match one.operator:
        case "In":
            return _Values(frozenset(one.values), False)
        case "NotIn":
            return _Values(frozenset(one.values), True, absent=True)
        case "DoesNotExist":
            return _Values(frozenset(), False, absent=True)
        case "Gt":
            return _Values(frozenset(), True, above=_bound(one))
        case "Lt":
            return _Values(frozenset(), True, below=_bound(one))
    # Exists, and operators to come, about which nothing is known but that they name the label.
    return _Values(frozenset(), True)


def _fulfils(values: _Values, value: str | None) -> bool:
    return values.absent if value is None else values.allows(value)


def _bound(one: Expression) -> int | None:
    return _integer(one.values[0]) if one.values else None


def _integer(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() else None


def _well_known(key: str) -> bool:
    return key.partition("/")[0] in _WELL_KNOWN_DOMAINS
