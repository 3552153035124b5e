"""Errors of the Kubernetes API, as values that callers can act on."""

from __future__ import annotations

import json
from typing import Any

# Long enough to name the object and the cause; short enough that a body which repeats a pod's environment is cut.
_MESSAGE_LIMIT = 300


class KubeError(Exception):
    """A failed call: HTTP status, the API's own reason word, a bounded message, and the wait it asked for.

    ``status`` is 0 where no answer came at all. ``retry_after`` is in seconds, None where the server named none.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        self.status = status
        self.reason = reason
        self.message = message[:_MESSAGE_LIMIT]
        self.retry_after = retry_after
        super().__init__(f"{status} {reason}: {self.message}")


class NotFound(KubeError):
    """404: no such object, or no such kind on this server."""


class Conflict(KubeError):
    """409: it exists already, or somebody else wrote it since."""


class Gone(KubeError):
    """410: the resource version is too old; list again."""


class Forbidden(KubeError):
    """401 or 403: the token is unknown, or the role lacks the verb, or a quota is used up."""


class Invalid(KubeError):
    """400 or 422: the server refuses the object as it is."""


class TooManyRequests(KubeError):
    """429: wait ``retry_after`` seconds."""


class Unavailable(KubeError):
    """5xx or no answer: try again later."""


_BY_STATUS: dict[int, type[KubeError]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def error_from(status: int, body: bytes | str, retry_after: str | None = None) -> KubeError:
    """The error for an answer of the API; ``body`` may be a Status object, HTML or nothing."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else body
    parsed = _status_object(text)
    reason = str(parsed.get("reason") or "")
    message = str(parsed.get("message") or text)
    kind = _BY_STATUS.get(status) or (Unavailable if status >= 500 or status == 0 else KubeError)
    return kind(status, reason, message, _seconds(retry_after))


def error_from_status_object(status: dict[str, Any]) -> KubeError:
    """The error for a Status object inside a watch stream (an ERROR event)."""
    return error_from(int(status.get("code") or 0), json.dumps(status))


def _status_object(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _seconds(retry_after: str | None) -> float | None:
    try:
        return max(0.0, float(retry_after)) if retry_after is not None else None
    except ValueError:
        return None
