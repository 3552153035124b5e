"""What a form or a query posts, as a plain object. Which names count, and which value wins, the parser knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def options_from_fields(fields: Mapping[str, Sequence[object]]) -> dict[str, object]:
    """Return user options from form or query fields: a list of one becomes its item, empty fields are left out.

    The hub's own ``_xsrf`` and uploaded files are left out too: options are saved, as JSON.
    """
    return {
        name: values[0] if len(values) == 1 else list(values)
        for name, values in fields.items()
        if values and name != "_xsrf" and all(isinstance(value, str) for value in values)
    }


def query_fields(fields: Mapping[str, Sequence[object]]) -> dict[str, Sequence[object]]:
    """Return query fields without the ``opt-`` prefix; with one such field, those without it are the hub's.

    JupyterHub 6 does this before we see them, JupyterHub 5 does not know the prefix.
    """
    prefixed = {name[4:]: values for name, values in fields.items() if name.startswith("opt-")}
    return prefixed or dict(fields)
