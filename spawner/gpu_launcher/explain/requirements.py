"""Label requirements against wishes and labels, as Karpenter and the scheduler judge them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gpu_launcher.domain.policy import Dialect
from gpu_launcher.domain.views import Expression
from gpu_launcher.planning.dialects import ARCH, HOSTNAME, OS, misspelt

# Label domains whose values come with the machine, so that a NodePool need not name them.
_MACHINE_DOMAINS = (
    "kubernetes.io/",
    "beta.kubernetes.io/",
    "node.kubernetes.io/",
    "topology.kubernetes.io/",
    "failure-domain.beta.kubernetes.io/",
    "karpenter.sh/",
    "karpenter.k8s.aws/",
    "topology.k8s.aws/",
    "eks.amazonaws.com/",
    "karpenter.azure.com/",
    "kubernetes.azure.com/",
    "karpenter.k8s.gcp/",
    "cloud.google.com/",
    "oci.oraclecloud.com/",
)


def by_key(offered: Iterable[Expression]) -> dict[str, list[Expression]]:
    """Return requirements by their label."""
    known: dict[str, list[Expression]] = {}
    for expression in offered:
        known.setdefault(expression.key, []).append(expression)
    return known


def overlap(wishes: Iterable[Expression], known: Mapping[str, list[Expression]]) -> bool:
    """Return whether a machine of these requirements can be one that fulfils every wish."""
    for wish in wishes:
        if wish.key not in known:
            if wish.operator in ("NotIn", "DoesNotExist"):
                continue
            if not _of_the_machine(wish.key):
                return False
        elif not _intersect(wish, known[wish.key]):
            return False
    return True


def _of_the_machine(key: str) -> bool:
    if any(misspelt(key, dialect) for dialect in (Dialect.AWS, Dialect.EKS_AUTO)):
        return False
    return key in (ARCH, OS, HOSTNAME) or any(
        key.startswith(domain) or f".{domain}" in f".{key}" for domain in _MACHINE_DOMAINS
    )


def _intersect(wish: Expression, offered: list[Expression]) -> bool:
    """Whether one value can satisfy both; open ranges on both sides are taken to overlap."""
    lists = [one.values for one in (wish, *offered) if one.operator == "In"]
    if lists:
        return any(all(allows(one, value) for one in (wish, *offered)) for value in lists[0])
    if any(one.operator == "DoesNotExist" for one in offered):
        return wish.operator in ("DoesNotExist", "NotIn")
    if wish.operator == "DoesNotExist":
        # A label that a NodePool only narrows is one that its machines carry.
        return all(one.operator in ("NotIn", "DoesNotExist") for one in offered)
    return True


def holds(labels: Mapping[str, str], wish: Expression) -> bool:
    """Return whether a node with these labels, and no others, fulfils the wish."""
    value = labels.get(wish.key)
    if value is None:
        return wish.operator in ("NotIn", "DoesNotExist")
    return wish.operator != "DoesNotExist" and allows(wish, value)


def allows(one: Expression, value: str) -> bool:
    """Return whether a label may have this value."""
    match one.operator:
        case "In":
            return value in one.values
        case "NotIn":
            return value not in one.values
        case "Gt" | "Lt" | "Gte" | "Lte":
            return _compares(one, value)
        case "DoesNotExist":
            return False
        case _:
            return True


def _compares(one: Expression, value: str) -> bool:
    bound = one.values[0] if one.values else ""
    if not (is_number(value) and is_number(bound)):
        return False
    mine, other = int(value), int(bound)
    return {"Gt": mine > other, "Lt": mine < other, "Gte": mine >= other, "Lte": mine <= other}[one.operator]


def is_number(text: str) -> bool:
    """Return whether it is a whole number as labels hold them."""
    return text.isascii() and text.isdigit() and len(text) <= 18
