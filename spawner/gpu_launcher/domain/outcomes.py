"""How a start can be refused: closed reasons, words for users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class RefusalReason(StrEnum):
    """Why a start ended without a server; closed, so that it can be a metric's label."""

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
    PERMISSION = "permission"
    """The hub lacks a permission in the cluster."""
    CAPACITY = "capacity"
    """The cloud has no such machine now."""
    CLOUD_QUOTA = "cloud_quota"
    """The cloud account may not have more such machines."""
    POOL_LIMIT = "pool_limit"
    """The NodePools' limits are reached."""
    NO_NODE_POOL = "no_node_pool"
    """No NodePool can serve the pod, or none of those that can is ready."""
    NODE_CLASS = "node_class"
    """The NodePool's node class is not ready."""
    NODE_NOT_REGISTERING = "node_not_registering"
    GPU_NOT_ADVERTISED = "gpu_not_advertised"
    UNSCHEDULABLE = "unschedulable"
    """No node of the cluster can ever take the pod."""
    VOLUME_ATTACHED_ELSEWHERE = "volume_attached_elsewhere"
    HOME_IN_USE = "home_in_use"
    """Another server of the user holds the volume."""
    VOLUME = "volume"
    """The volume cannot be bound or mounted."""
    IMAGE = "image"
    """The image cannot be pulled."""
    CRASH = "crash"
    """The container ends again and again."""
    EVICTED = "evicted"
    POD_DELETED = "pod_deleted"
    """Somebody or something other than the hub deleted the pod."""
    NODE_DELETED = "node_deleted"
    ADMISSION_ERROR = "admission_error"
    """The node did not accept the pod, twice."""
    NO_ANSWER = "no_answer"
    """The container runs and its server never answered."""
    DEADLINE = "deadline"
    """None of the above, and the start took too long."""
    HUB_RESTARTED = "hub_restarted"

    @property
    def status(self) -> int:
        """The HTTP status that says the same."""
        # 424 keeps a refusal below 500: what the cluster cannot give is no failure of the hub.
        return _STATUS.get(self, 424)


_STATUS = {
    RefusalReason.INVALID_OPTIONS: 400,
    RefusalReason.UNKNOWN_PROFILE: 400,
    RefusalReason.UNKNOWN_IMAGE: 400,
    RefusalReason.NOT_ENTITLED: 403,
    RefusalReason.GPU_LIMIT: 403,
    RefusalReason.QUOTA: 403,
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
