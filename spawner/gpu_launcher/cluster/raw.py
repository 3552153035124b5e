"""Single facts out of untrusted JSON: every function is total, and what makes no sense is absent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from gpu_launcher.domain.resources import Resources
from gpu_launcher.domain.views import Condition, Expression

GPU = "nvidia.com/gpu"

_NUMBER = re.compile(r"([0-9]{1,24}(?:\.[0-9]{0,18})?(?:[eE][+-]?[0-9]{1,2})?)([A-Za-z]{0,2})", re.ASCII)
_UNITS = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}
# Nothing real comes near; a larger number would only be dragged through sums.
_LARGEST = Decimal(2) ** 63
_TEXT_KEPT = 2000


def mapping(value: object) -> Mapping[str, object]:
    """Return the value if it is a JSON object, else an empty one; keys that are no text are left out."""
    if not isinstance(value, Mapping):
        return {}
    return (
        value if all(isinstance(key, str) for key in value) else {k: v for k, v in value.items() if isinstance(k, str)}
    )


def items(value: object) -> Iterator[Mapping[str, object]]:
    """Yield the objects in a list; nothing for anything else."""
    if isinstance(value, (list, tuple)):
        yield from (mapping(item) for item in value if isinstance(item, Mapping))


def text(value: object) -> str:
    """Return the value if it is text, else ""; very long texts are cut."""
    return value[:_TEXT_KEPT] if isinstance(value, str) else ""


def texts(value: object) -> tuple[str, ...]:
    """Return the texts in a list; empty for anything else."""
    return tuple(text(item) for item in value if isinstance(item, str)) if isinstance(value, (list, tuple)) else ()


def whole(value: object) -> int | None:
    """Return the value if it is a whole number of sensible size, else None."""
    sensible = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31
    return value if sensible and isinstance(value, int) else None


def labels(value: object) -> dict[str, str]:
    """Return the entries of an object whose values are text."""
    return {key: item for key, item in mapping(value).items() if isinstance(item, str)}


def moment(value: object) -> float | None:
    """Return an RFC 3339 time as Unix seconds; one without an offset is UTC. None for anything else."""
    if not isinstance(value, str) or not 10 <= len(value) <= 40:
        return None
    try:
        parsed = datetime.fromisoformat(value)
        seconds = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    # Go writes a time that was never set as the year 1.
    return seconds if seconds > 0 else None


def amount(value: object) -> float | None:
    """Return a quantity as the API server writes it, in its base unit: ``"250m"`` is 0.25. None for anything else."""
    found = _decimal(value)
    return None if found is None else float(found)


def resources(value: object) -> Resources:
    """Return a resource list; what is missing or malformed counts as 0."""
    given = mapping(value)
    cpu = _decimal(given.get("cpu")) or Decimal(0)
    rest = (_decimal(given.get(name)) or Decimal(0) for name in ("memory", "ephemeral-storage", GPU))
    return Resources(int(cpu * 1000), *map(int, rest))


def conditions(value: object) -> dict[str, Condition]:
    """Return ``status.conditions`` by type; entries without a type are left out."""
    found = (
        Condition(
            type=text(item.get("type")),
            status=text(item.get("status")),
            reason=text(item.get("reason")),
            message=text(item.get("message")),
            since=moment(item.get("lastTransitionTime")),
        )
        for item in items(value)
    )
    return {condition.type: condition for condition in found if condition.type}


def expressions(value: object) -> tuple[Expression, ...]:
    """Return match expressions; entries without a key or an operator are left out."""
    found = (
        Expression(text(item.get("key")), text(item.get("operator")), texts(item.get("values")))
        for item in items(value)
    )
    return tuple(expression for expression in found if expression.key and expression.operator)


def _decimal(value: object) -> Decimal | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value) if 0 <= value < _LARGEST else None
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2] not in _UNITS:
        return None
    try:
        found = Decimal(match[1]) * _UNITS[match[2]]
    except InvalidOperation:
        return None
    return found if found < _LARGEST else None
