"""What an admin decides about the cluster, the prices and everybody's limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gpu_launcher.domain.quantity import GIB, MIB
from gpu_launcher.domain.resources import Resources


class Dialect(StrEnum):
    """Whose node labels the cluster speaks."""

    AWS = "aws"
    """Karpenter's AWS provider."""
    EKS_AUTO = "eks-auto"
    """EKS Auto Mode."""
    GKE = "gke"
    AKS = "aks"
    """Karpenter's Azure provider (node auto-provisioning)."""
    GFD = "gfd"
    """Any cluster whose nodes NVIDIA GPU Feature Discovery labels."""


@dataclass(frozen=True, slots=True)
class ClusterPolicy:
    """Facts about the cluster that sizing and placement need.

    ``disk_bytes`` is the node class's disk; ``daemonsets`` what all DaemonSets of a GPU node request together;
    ``reserve`` the part of each of the host's amounts that is left free (0.02 is 2 %: too little and the first node of
    a type may turn out smaller than Karpenter's estimate and never fit, too much and every session pays for it).
    """

    dialect: Dialect = Dialect.AWS
    disk_bytes: int = 200 * GIB
    daemonsets: Resources = field(default_factory=lambda: Resources(250, 512 * MIB, GIB))
    reserve: float = 0.02
    toleration_keys: tuple[str, ...] = ("nvidia.com/gpu",)
    priority_class: str | None = None
    disk_snapshot: bool = False
    """Whether the node class's disk comes from a snapshot that already holds the images."""
    parallel_pull: bool = False
    """Whether nodes unpack image layers in parallel."""


@dataclass(frozen=True, slots=True)
class Prices:
    """How list prices become this site's prices.

    ``discount`` is the part taken off on-demand list prices (0.1 is 10 %), ``spot_ratio`` spot as a part of on-demand,
    ``overrides`` the on-demand dollars per hour of single types, which no discount changes.
    """

    discount: float = 0.0
    spot_ratio: float = 0.4
    overrides: Mapping[str, float] = field(default_factory=dict)


class Mode(StrEnum):
    """How far the controller may go with headroom or culling."""

    OFF = "off"
    OBSERVE = "observe"
    """Plans, measures and prices everything, and changes nothing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits over all profiles together; None is no limit. ``groups`` gives single groups their own GPU limit."""

    gpus_per_user: int | None = None
    gpus_per_group: int | None = None
    groups: Mapping[str, int] = field(default_factory=dict)
