"""What a form or a query posts, reduced to the launcher's own keys. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_CHOICES = ("image", "image--unlisted-choice", "gpus", "spot")


def options_from_fields(fields: Mapping[str, Sequence[object]]) -> dict[str, object]:
    """Return user options from form or query fields, each a list of which the first item counts.

    A choice is named as KubeSpawner's and fancy-profiles' forms name it (``profile-option-<profile>--image``) or by
    itself (``image``). Everything else, such as the hub's ``_xsrf`` or choices on other cards, is left out.
    """
    given = {name: values[0] for name, values in fields.items() if values}
    profile = given.get("profile")
    options = {} if profile is None else {"profile": profile}
    for choice in _CHOICES:
        value = given.get(f"profile-option-{profile}--{choice}", given.get(choice))
        if value is not None:
            options[choice] = value
    # A page without scripts posts the list and the free text together: text that was typed is what was meant.
    options.pop("image" if options.get("image--unlisted-choice") else "image--unlisted-choice", None)
    return options


def query_fields(fields: Mapping[str, Sequence[object]]) -> dict[str, Sequence[object]]:
    """Return query fields without the ``opt-`` prefix; with one such field, those without it are the hub's.

    JupyterHub 6 does this before we see them, JupyterHub 5 does not know the prefix.
    """
    prefixed = {name[4:]: values for name, values in fields.items() if name.startswith("opt-")}
    return prefixed or dict(fields)
