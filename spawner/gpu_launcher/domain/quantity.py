"""Kubernetes quantities, read strictly: what a person may write in a profile, as exact integers.

``kubernetes.utils.parse_quantity`` takes NaN, Infinity, negative numbers, full-width digits and underscores. A
quantity that is wrong by a factor of a thousand costs money or strands a pod, so everything outside one small grammar
is refused.
"""

from __future__ import annotations

import re

# Kubernetes keeps quantities in 64 bits; nothing real comes near.
_LARGEST = 2**63 - 1
_LONGEST = 32

_NUMBER = re.compile(r"([0-9]+)(?:\.([0-9]+))?([A-Za-z]*)", re.ASCII)

_BYTES = {
    "": 1,
    **{unit: 1000**power for power, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": 1024**power for power, unit in enumerate("KMGTPE", start=1)},
}
_MILLICORES = {"": 1000, "m": 1}

KIB, MIB, GIB = 1024, 1024**2, 1024**3


class QuantityError(ValueError):
    """Raised for text that is no quantity; the message says what to write instead."""


def parse_cpu(text: object) -> int:
    """Return CPU in millicores: ``"3920m"`` is 3920, ``"4"``, ``4`` and ``"4.0"`` are 4000.

    Raises QuantityError for anything finer than one millicore, and for everything that is not text or an integer.
    """
    return _scaled(text, _MILLICORES, 'write cores as "4" or millicores as "3920m"')


def parse_bytes(text: object) -> int:
    """Return an amount of memory or disk in bytes: ``"13868Mi"``, ``"14G"``, ``1073741824``.

    Raises QuantityError for fractions of a byte, and for everything that is not text or an integer.
    """
    return _scaled(text, _BYTES, 'write bytes as "13868Mi" or "16Gi"')


def format_cpu(millicores: int) -> str:
    """Return millicores as Kubernetes writes them: ``"3920m"``, or ``"4"`` when whole."""
    return str(millicores // 1000) if millicores % 1000 == 0 else f"{millicores}m"


def format_bytes(amount: int) -> str:
    """Return bytes in the largest binary unit that is exact: ``"13868Mi"``, ``"16Gi"``, ``"1000"``."""
    if amount == 0:
        return "0"
    unit = ""
    for candidate in ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"):
        if amount % _BYTES[candidate]:
            break
        unit = candidate
    return f"{amount // _BYTES[unit]}{unit}"


def _scaled(text: object, units: dict[str, int], remedy: str) -> int:
    if isinstance(text, int) and not isinstance(text, bool):
        return _bounded(text * units[""], text, remedy)
    match = _NUMBER.fullmatch(text) if isinstance(text, str) and len(text) <= _LONGEST else None
    if match is None or match[3] not in units:
        raise QuantityError(f"{_shown(text)} is not a quantity; {remedy}")
    fraction = match[2] or ""
    # Integers all the way: a float would turn "0.1" into 0.1000000000000000055.
    value, rest = divmod(int(match[1] + fraction) * units[match[3]], 10 ** len(fraction))
    if rest:
        raise QuantityError(f"{_shown(text)} is finer than the smallest unit; {remedy}")
    return _bounded(value, text, remedy)


def _bounded(value: int, text: object, remedy: str) -> int:
    if not 0 <= value <= _LARGEST:
        raise QuantityError(f"{_shown(text)} is out of range; {remedy}")
    return value


def _shown(text: object) -> str:
    if isinstance(text, (str, bool, float)) or text is None:
        return repr(text)[:60]
    # An integer of a million digits must not be turned into text for an error message.
    return "the number" if isinstance(text, int) else type(text).__name__
