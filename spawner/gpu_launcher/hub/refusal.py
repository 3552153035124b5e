"""Refusals as the hub understands them: an answer to the user, never a failure of the hub."""

from __future__ import annotations

from collections.abc import MutableMapping
from html import escape
from typing import Any

import jupyterhub.spawner
from tornado import web

from gpu_launcher.domain.outcomes import Refusal
from gpu_launcher.explain.alternatives import Alternative

_SpawnException: Any = getattr(jupyterhub.spawner, "SpawnException", None)

COUNTS_EVERY_FAILURE = _SpawnException is None
"""JupyterHub 5 counts every exception of a start, refusals included, towards ``consecutive_failure_limit``."""


class StartRefused(_SpawnException or web.HTTPError):  # type: ignore[misc]
    """A start that ends with a closed reason and words for the user.

    JupyterHub reads ``jupyterhub_message`` and ``jupyterhub_html_message``; the class name is shown to nobody.
    """

    reference = ""
    """Six characters, on the page and in the log; "" for a start that was refused before it began."""

    alternatives: tuple[Alternative, ...] = ()
    """What could be started instead, the best first."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        self.jupyterhub_message = refusal.message
        self.jupyterhub_html_message = escape(refusal.message)
        if COUNTS_EVERY_FAILURE:
            # The REST API of JupyterHub 5 answers with the log message, so it has to be the user's.
            super().__init__(refusal.status, refusal.message)
        else:
            super().__init__(
                refusal.message,
                reason=refusal.reason.value,
                log_message=f"start refused: {refusal.reason}",
                message_html=self.jupyterhub_html_message,
                status_code=refusal.status,
            )


def compensate(failure: BaseException | None, hub_settings: MutableMapping[str, Any] | None) -> None:
    """Take a refusal back out of the hub's count of consecutive failures, just before the hub adds it.

    Does nothing on hubs that tell a refusal from a failure, and nothing for real failures. ``hub_settings`` are the
    tornado settings of the handler that asked for the start: the hub's own dictionary is a different one.
    """
    if COUNTS_EVERY_FAILURE and hub_settings is not None and isinstance(failure, StartRefused):
        hub_settings["failure_count"] = hub_settings.get("failure_count", 0) - 1
