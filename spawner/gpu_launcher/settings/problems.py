"""Problems of a document in plain words: where, what, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic_core import ErrorDetails

from gpu_launcher.domain.policy import Dialect
from gpu_launcher.domain.profile import Capacity
from gpu_launcher.planning.dialects import capacity_terms
from gpu_launcher.settings.schema import keys_at


def profile_problems(data: Mapping[str, Any]) -> list[str]:
    """Return the problems between profiles, each as "path: what; remedy"; *data* may be otherwise wrong."""
    raw = data.get("profiles")
    profiles = [(i, one) for i, one in enumerate(raw) if isinstance(one, dict)] if isinstance(raw, list) else []
    problems: list[str] = []
    first: dict[str, int] = {}
    names = {i: str(one.get("display_name", "")) for i, one in profiles}
    for i, one in profiles:
        key = one.get("id")
        if not isinstance(key, str):
            continue
        if key in first:
            both = f'"{names[first[key]]}" and "{names[i]}"'
            problems.append(
                f"profiles[{i}].id: {key} is the id of profiles[{first[key]}] too ({both}); give one another id"
            )
        first.setdefault(key, i)
    marked = [i for i, one in profiles if one.get("default") is True]
    for i in marked[1:]:
        both = f'"{names[marked[0]]}" and "{names[i]}"'
        problems.append(f"profiles[{i}].default: profiles[{marked[0]}] is the default too ({both}); keep one of them")
    if len(profiles) > 1 and not marked:
        problems.append("profiles: none is the default; set default: true on the one that starts unless users choose")
    return [*problems, *_fallback_problems(data, profiles)]


def _fallback_problems(data: Mapping[str, Any], profiles: list[tuple[int, dict[str, Any]]]) -> Iterator[str]:
    """Fallbacks that name no profile, or a way of buying that the cluster's labels cannot express."""
    ids = [key for _, one in profiles if isinstance(key := one.get("id"), str)]
    cluster = data.get("cluster")
    dialect = cluster.get("dialect") if isinstance(cluster, dict) else None
    for i, one in profiles:
        fallback = one.get("fallback")
        if not isinstance(fallback, dict):
            continue
        path, listed = f"profiles[{i}].fallback", fallback.get("profiles")
        for place, key in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(key, str) and key not in ids:
                yield f"{path}.profiles[{place}]: {key} is the id of no profile; {_nearest(key, ids)}"
        capacity = fallback.get("capacity")
        known = capacity in list(Capacity) and dialect in list(Dialect)
        if known and capacity_terms(Dialect(str(dialect)), Capacity(str(capacity))) is None:
            yield f"{path}.capacity: {dialect} labels cannot say capacity {capacity}; use on-demand or spot"


def _nearest(key: str, known: list[str]) -> str:
    close = get_close_matches(key, known, n=1)
    return f"did you mean {close[0]}?" if close else f"remove it (known: {', '.join(known)})"


def problem_of(error: ErrorDetails) -> str:
    """Return one of pydantic's problems as "path: what; remedy"."""
    loc = error["loc"]
    # pydantic names the branch of an optional value or a key's check; neither is part of the path.
    parts = [part for part in loc if part != "[key]"]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".") or "document"
    return f"{path}: {_what(error)}"


def _what(error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context.get("error", error["msg"]))
    if kind == "extra_forbidden":
        return f"is not a known key; {_meant(error)}"
    if kind in _WORDS:
        return _WORDS[kind].format(**{key: value for key, value in context.items() if key != "error"})
    return f"{error['msg']}; see the reference of the configuration"


_WORDS = {
    "missing": "is missing; add it",
    "model_type": "must be a mapping; indent its keys below it",
    "dict_type": "must be a mapping; indent its keys below it",
    "list_type": "must be a list; begin each item with a hyphen",
    "string_type": "must be text; quote it",
    "int_type": "must be a whole number; write one such as 2, without quotes or a fraction",
    "int_from_float": "must be a whole number; remove the fraction",
    "float_type": "must be a number; write it without quotes",
    "finite_number": "must be a finite number; write a plain one",
    "bool_type": "must be true or false; write it without quotes",
    "greater_than": "is too small; use more than {gt}",
    "greater_than_equal": "is too small; use {ge} or more",
    "less_than": "is too large; use less than {lt}",
    "less_than_equal": "is too large; use {le} or less",
    "string_too_short": "is empty; write at least {min_length} character",
    "string_too_long": "is too long; use at most {max_length} characters",
    "too_short": "is empty; list at least {min_length}, or leave the key out",
    "too_long": "has too many items; list at most {max_length}",
    "enum": "is not one of the choices; use {expected}",
    "literal_error": "is not one of the choices; use {expected}",
}


def _meant(error: ErrorDetails) -> str:
    return _nearest(str(error["loc"][-1]), keys_at(error["loc"][:-1]))
