"""Regular expressions of admins that meet text of users: which of them may take for ever."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""
      (?P<plain> \\. | \[\^?\]?(?:\\.|[^\]\\])*\] )   # an escape, a character class: what is inside means nothing here
    | (?P<open> \(\?? )
    | (?P<close> \) )
    | (?P<most> [*+] | \{[0-9]*,\} )                  # any number of times
    | \{(?:[0-9]*,)?(?P<times>[0-9]+)\}
    | (?P<varies> [?|] )
    | (?P<space> \s )                                 # which means nothing with the flag x
    | .
    """,
    re.VERBOSE | re.DOTALL,
)


def repeats_what_varies(pattern: str) -> bool:
    """Return whether a valid pattern repeats a group that itself varies in length: ``([a-z]+)+``, ``(a|aa)*``.

    Text that does not match can be split between the two in exponentially many ways, and all of them are tried.
    """
    groups = [False]
    """Whether each group that is open at this place holds a repeat, ``?`` or ``|``; the pattern itself is the first."""
    just_closed = False
    for token in _TOKEN.finditer(pattern):
        kind, text = token.lastgroup, token[0]
        repeated = kind == "most" or (kind == "times" and int(token["times"]) > 1)
        if repeated and just_closed:
            return True
        if kind == "open":
            groups.append(False)
        elif kind in ("most", "varies") or (kind == "times" and "," in text):
            groups[-1] = True
        if kind != "space":
            just_closed = False
        if kind == "close" and len(groups) > 1:
            just_closed = groups.pop()
            groups[-1] |= just_closed
    return False
