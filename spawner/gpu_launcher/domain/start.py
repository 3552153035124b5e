"""One start as the launcher sees it: the frozen facts that a diagnosis is made of, and its record afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gpu_launcher.domain.profile import Capacity
from gpu_launcher.domain.stage import Stage, StartKind, StartOutcome
from gpu_launcher.domain.views import EventView, NodeClaimView, NodePoolView, NodeView, PodView, VolumeView


class ShortageKind(StrEnum):
    """Why the cloud did not give a machine."""

    CAPACITY = "capacity"
    """It has none left."""
    QUOTA = "quota"
    """The account may not have more: vCPU limit, spot count, subnet addresses."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """A NodeClaim that ended without a machine. Empty tuples: not known, or any."""

    kind: ShortageKind
    at: float
    node_pool: str
    claim: NodeClaimView | None = None
    """Its last state; None if only its event was seen."""
    instance_types: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    capacity_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OwnServer:
    """Another server of the same user, for messages: "" is the default server."""

    name: str
    node: str
    claims: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StartSnapshot:
    """Everything known about one start at ``now`` (Unix seconds). A tuple that is None could not be read."""

    now: float
    asked_at: float
    """When the user asked, or, after a fallback, when this attempt began."""
    capacity: Capacity
    gpus: int
    pod: PodView | None = None
    pod_seen: bool = False
    """Whether the pod existed at an earlier look; with ``pod`` None it was deleted from outside."""
    last_node: str = ""
    """Where the pod was when it was last seen; "" before it had a node."""
    server_answered: bool = False
    nodes: tuple[NodeView, ...] | None = None
    claims: tuple[NodeClaimView, ...] | None = None
    node_pools: tuple[NodePoolView, ...] | None = None
    volumes: tuple[VolumeView, ...] | None = None
    events: tuple[EventView, ...] = ()
    """Of this pod, oldest first."""
    shortages: tuple[Shortage, ...] = ()
    """Of the whole cluster, oldest first; which of them concern this pod is the diagnosis's to say."""
    node_pods: tuple[PodView, ...] | None = None
    """Pods of the hub's namespace, this one included: who uses which slot."""
    own_servers: tuple[OwnServer, ...] = ()
    ready_slots: int | None = None
    """Ready slots of this pod's slot pool as the controller published them; None is unknown."""


@dataclass(frozen=True, slots=True)
class StartPolicy:
    """How long a start may be stuck before it ends with its reason, in seconds."""

    no_capacity_s: int = 240
    not_registering_s: int = 300
    gpu_missing_s: int = 180
    volume_s: int = 120
    image_s: int = 60
    """How long an image that cannot be pulled is retried."""
    crashes: int = 3
    """A container that ended this often does not start."""


@dataclass(frozen=True, slots=True)
class StageTime:
    """One stage of a start and what it took, in seconds."""

    stage: Stage
    seconds: float


@dataclass(frozen=True, slots=True)
class StartRecord:
    """A start that ended. Prices are dollars per hour of the session, None if unknown; ``reason`` is "" when ready."""

    profile_id: str
    pool_id: str
    kind: StartKind
    outcome: StartOutcome
    reason: str
    began_at: float
    seconds: float
    stages: tuple[StageTime, ...] = ()
    attempts: int = 1
    capacity_type: str = ""
    zone: str = ""
    instance_type: str = ""
    usd_per_hour: float | None = None
    eta_p50_s: float | None = None
    """Of the whole start, as first shown to the user."""
    eta_p90_s: float | None = None
    config_hash: str = ""
    detail: Mapping[str, str] = field(default_factory=dict)
