"""How a start can be refused: closed reasons, words for users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class RefusalReason(StrEnum):
    """Why a start was refused before anything was created."""

    INVALID_OPTIONS = "invalid_options"
    UNKNOWN_PROFILE = "unknown_profile"
    UNKNOWN_IMAGE = "unknown_image"
    NOT_ENTITLED = "not_entitled"
    GPU_LIMIT = "gpu_limit"
    UNAVAILABLE = "unavailable"
    QUOTA = "quota"
    """The namespace's quota is used up."""
    POD_REJECTED = "pod_rejected"
    """The API server or an admission policy does not accept the pod."""

    @property
    def status(self) -> int:
        """The HTTP status that says the same."""
        return _STATUS[self]


_STATUS = {
    RefusalReason.INVALID_OPTIONS: 400,
    RefusalReason.UNKNOWN_PROFILE: 400,
    RefusalReason.UNKNOWN_IMAGE: 400,
    RefusalReason.NOT_ENTITLED: 403,
    RefusalReason.GPU_LIMIT: 403,
    # 424 keeps the refusal below 500: a profile that no machine can serve is no failure of the hub.
    RefusalReason.UNAVAILABLE: 424,
    RefusalReason.QUOTA: 403,
    RefusalReason.POD_REJECTED: 424,
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused start: the reason, a message in a user's words (plain text, to be escaped), details for templates."""

    reason: RefusalReason
    message: str
    detail: Mapping[str, object] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The HTTP status, always below 500."""
        return self.reason.status
