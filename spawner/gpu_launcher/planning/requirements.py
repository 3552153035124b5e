"""Label requirements: whether a node's labels fulfil them, and whether two sets of them leave a common machine.

Judged as Karpenter and the scheduler judge them; only what no machine can be is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from gpu_launcher.domain.policy import Dialect
from gpu_launcher.domain.views import Expression
from gpu_launcher.planning.dialects import misspelt

# Labels that Karpenter and the clouds give to machines by themselves, in these domains and those below them: not being
# named in a NodePool allows any value.
_MACHINE_DOMAINS = (
    ".kubernetes.io",
    ".karpenter.sh",
    ".karpenter.k8s.aws",
    ".topology.k8s.aws",
    ".eks.amazonaws.com",
    ".karpenter.azure.com",
    ".kubernetes.azure.com",
    ".karpenter.k8s.gcp",
    ".cloud.google.com",
    ".oci.oraclecloud.com",
    ".karpenter.kwok.sh",
)
# Kubernetes keeps these for labels that the site gives to its nodes.
_SITE_DOMAINS = (".node-restriction.kubernetes.io", ".node-role.kubernetes.io")


class _Values(NamedTuple):
    """The values that a label may have: those of ``named``, or with ``others`` any but those, between the bounds."""

    named: frozenset[str]
    others: bool
    above: int | None = None
    below: int | None = None
    absent: bool = False
    """Whether the label may also be missing."""

    def meet(self, other: _Values) -> _Values:
        """Return what both leave."""
        above, below = _tighter(max, self.above, other.above), _tighter(min, self.below, other.below)
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
        if self.above is None and self.below is None:
            return bool(self.named)
        return any(self.allow(value) for value in self.named)

    def allow(self, value: str | None) -> bool:
        """Return whether a label of this value is among them; None is a label that is missing."""
        if value is None:
            return self.absent
        if (value in self.named) is self.others:
            return False
        if self.above is None and self.below is None:
            return True
        found = number(value)
        if found is None:
            return False
        return (self.above is None or found > self.above) and (self.below is None or found < self.below)


# For an expression that nothing can fulfil, such as a comparison with something that is no number.
_NOTHING = _Values(frozenset(), False)


class Requirements:
    """What expressions together leave of each label that they name: worth making once where it is judged often."""

    __slots__ = ("_by_key",)

    def __init__(self, expressions: Iterable[Expression]) -> None:
        found: dict[str, _Values] = {}
        for one in expressions:
            values = _values(one)
            found[one.key] = found[one.key].meet(values) if one.key in found else values
        self._by_key = found

    def fulfilled(self, labels: Mapping[str, str]) -> bool:
        """Return whether a node with these labels, and no others, meets all of them."""
        return all(values.allow(labels.get(key)) for key, values in self._by_key.items())

    def overlap(self, offered: Requirements) -> bool:
        """Return whether some machine meets both, by Karpenter's rule for labels that only one of them names.

        A label that is not *offered* may have any value if a cloud or Karpenter sets it; a label of the site's own
        does not exist then.
        """
        for key, mine in self._by_key.items():
            theirs = offered._by_key.get(key)
            if theirs is not None:
                if not mine.meet(theirs).possible:
                    return False
            elif not (mine.absent or (mine.possible and _of_the_machine(key))):
                return False
        return True


def fulfilled(wanted: Iterable[Expression], labels: Mapping[str, str]) -> bool:
    """Return whether a node with these labels, and no others, meets every expression."""
    return all(_values(one).allow(labels.get(one.key)) for one in wanted)


def overlap(wanted: Iterable[Expression], offered: Iterable[Expression]) -> bool:
    """Return whether some machine meets both, as ``Requirements.overlap`` has it."""
    return Requirements(wanted).overlap(Requirements(offered))


def number(text: str) -> int | None:
    """Return the whole number that a label's value holds; None if it holds none."""
    # Longer ones are beyond what the scheduler reads.
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None


def _values(one: Expression) -> _Values:
    match one.operator:
        case "In":
            return _Values(frozenset(one.values), False)
        case "NotIn":
            return _Values(frozenset(one.values), True, absent=True)
        case "DoesNotExist":
            return _Values(frozenset(), False, absent=True)
        case "Gt" | "Gte" | "Lt" | "Lte":
            return _range(one)
    # Exists, and operators to come, about which nothing is known but that they name the label.
    return _Values(frozenset(), True)


def _range(one: Expression) -> _Values:
    """The numbers on one side of a bound; nothing if the bound is no number, as the scheduler has it."""
    text = one.values[0] if one.values else ""
    size = number(text.removeprefix("-"))
    if size is None:
        return _NOTHING
    bound = -size if text.startswith("-") else size
    match one.operator:
        case "Gt":
            return _Values(frozenset(), True, above=bound)
        case "Gte":
            return _Values(frozenset(), True, above=bound - 1)
        case "Lt":
            return _Values(frozenset(), True, below=bound)
    return _Values(frozenset(), True, below=bound + 1)


def _tighter(choose: Callable[[int, int], int], one: int | None, other: int | None) -> int | None:
    if one is None:
        return other
    return one if other is None else choose(one, other)


def _of_the_machine(key: str) -> bool:
    domain, slash, _ = f".{key}".partition("/")
    if not slash or not domain.endswith(_MACHINE_DOMAINS) or domain.endswith(_SITE_DOMAINS):
        return False
    return not (misspelt(key, Dialect.AWS) or misspelt(key, Dialect.EKS_AUTO))
