"""The configuration document: one model, from which come validation, the JSON Schema and the reference page.

The document is what admins write (YAML, or arguments of ``configure``); each part turns itself into the domain value
that the rest of the launcher works with. Unknown keys are refused everywhere.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gpu_launcher.domain import policy
from gpu_launcher.domain.policy import Dialect, Mode
from gpu_launcher.domain.quantity import GIB, MIB
from gpu_launcher.domain.resources import Resources
from gpu_launcher.domain.start import StartPolicy
from gpu_launcher.settings import defaults
from gpu_launcher.settings.fields import (
    Bytes,
    Cpu,
    Duration,
    GroupName,
    InstanceTypeName,
    KubernetesName,
    LabelKey,
    ModeField,
)
from gpu_launcher.settings.part import Limit, Part
from gpu_launcher.settings.profiles import Profile

_Price = Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False, strict=True)]


class DaemonSets(Part):
    """What all DaemonSets of one GPU node request together."""

    cpu: Cpu = 250
    """CPU, in cores or millicores."""
    memory: Bytes = 512 * MIB
    """Memory, in bytes."""
    ephemeral: Bytes = GIB
    """Ephemeral storage, in bytes."""


class Cluster(Part):
    """Facts about the cluster. Wrong ones make slots that do not fit."""

    dialect: Dialect = Field(default=Dialect.AWS, strict=False)
    """Whose node labels the cluster speaks: `aws` (Karpenter on EKS), `eks-auto`, `gke`, `aks`, `gfd` (NVIDIA GPU
    Feature Discovery). Machines are known for the first two; elsewhere profiles state their size."""
    disk: Bytes = Field(default=200 * GIB)
    """Size of a node's disk in the node class, in bytes. Images and scratch come out of it."""
    daemonsets: DaemonSets = Field(default_factory=DaemonSets)
    """What all DaemonSets of a GPU node request together. Leave room for the largest that may come."""
    reserve: float = Field(default=0.02, ge=0, le=0.2, allow_inf_nan=False)
    """Part of each amount of a machine that stays free (0.02 is 2 %), because the first node of a type may turn out
    smaller than Karpenter's estimate."""
    toleration_keys: list[LabelKey] = Field(default_factory=lambda: ["nvidia.com/gpu"])
    """Taints of GPU nodes that sessions tolerate, by key, effect NoSchedule."""
    priority_class: KubernetesName | None = None
    """PriorityClass of session pods. Without it they keep the hub's."""
    disk_snapshot: bool = False
    """Whether the node class's disk comes from a snapshot that already holds the images."""
    parallel_pull: bool = False
    """Whether nodes unpack the layers of an image in parallel (SOCI)."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if not 10 * GIB <= self.disk <= 64 * 1024 * GIB:
            raise ValueError("disk must be between 10Gi and 64Ti; use the volume size of the node class")
        return self

    def value(self) -> policy.ClusterPolicy:
        """Return the domain value."""
        taken = self.daemonsets
        return policy.ClusterPolicy(
            dialect=self.dialect,
            disk_bytes=self.disk,
            daemonsets=Resources(taken.cpu, taken.memory, taken.ephemeral),
            reserve=self.reserve,
            toleration_keys=tuple(self.toleration_keys),
            priority_class=self.priority_class,
            disk_snapshot=self.disk_snapshot,
            parallel_pull=self.parallel_pull,
        )


class Prices(Part):
    """How list prices become this site's prices. All are US dollars per hour, as shown to users."""

    discount: float = Field(default=0.0, ge=0, lt=1, allow_inf_nan=False)
    """Part taken off on-demand list prices (0.1 is 10 %)."""
    spot_ratio: float = Field(default=0.4, gt=0, le=1, allow_inf_nan=False)
    """Spot as a part of the on-demand price, for estimates."""
    overrides: dict[InstanceTypeName, _Price] = Field(default_factory=dict)
    """On-demand dollars per hour of single machine types; the discount does not change them."""

    def value(self) -> policy.Prices:
        """Return the domain value."""
        return policy.Prices(self.discount, self.spot_ratio, dict(self.overrides))


class Limits(Part):
    """Limits over all profiles together. Without a value there is no such limit."""

    gpus_per_user: Limit | None = None
    """GPUs that one user may hold at a time."""
    gpus_per_group: Limit | None = None
    """GPUs that the members of any one group may hold together."""
    groups: dict[GroupName, Limit] = Field(default_factory=dict)
    """GPUs that the members of these groups may hold together, by group, in place of `gpus_per_group`."""

    def value(self) -> policy.Limits:
        """Return the domain value."""
        return policy.Limits(self.gpus_per_user, self.gpus_per_group, dict(self.groups))


class Starts(Part):
    """How long a start may be stuck before it ends with its reason. All of it within a profile's `start_timeout`."""

    no_capacity: Duration = 240
    """How long the cloud is asked again while it has no machine, before the start ends or falls back."""
    not_registering: Duration = 300
    """How long a machine that runs may take to become a usable node. Karpenter itself waits 15 minutes."""
    gpu_missing: Duration = 180
    """How long a ready node may keep its GPUs to itself. Longer where the GPU operator installs drivers at boot."""
    volume: Duration = 120
    """How long a volume may take to be bound, attached and mounted, once something has complained about it."""
    image: Duration = 60
    """How long an image that cannot be pulled is tried again. An image that is only large may take any time."""
    crashes: int = Field(default=3, ge=1, le=20)
    """A server that ended by itself this often does not start."""

    def value(self) -> StartPolicy:
        """Return the domain value."""
        return StartPolicy(
            no_capacity_s=self.no_capacity,
            not_registering_s=self.not_registering,
            gpu_missing_s=self.gpu_missing,
            volume_s=self.volume,
            image_s=self.image,
            crashes=self.crashes,
        )


class Headroom(Part):
    """Spare slots that are kept warm."""

    mode: ModeField = Mode.OBSERVE
    """`observe` or `off`: neither buys anything, and `on` is refused until the controller is there. Write `"off"` with
    quotes in YAML."""


class Culling(Part):
    """Ending of idle sessions."""

    mode: ModeField = Mode.OBSERVE
    """`observe` or `off`: neither ends anything, and `on` is refused until the controller is there. Write `"off"` with
    quotes in YAML."""


class Document(Part):
    """The whole configuration."""

    version: Literal[1] = 1
    """Version of this document's form."""
    profiles: list[Profile] = Field(
        default_factory=defaults.profiles, min_length=1, max_length=200, validate_default=True
    )
    """What users can pick, in the order of the page. Left out: CPU, T4, L4 and A10G, all on-demand."""
    cluster: Cluster = Field(default_factory=Cluster)
    """Facts about the cluster."""
    prices: Prices = Field(default_factory=Prices)
    """This site's prices."""
    limits: Limits = Field(default_factory=Limits)
    """Limits over all profiles together."""
    starts: Starts = Field(default_factory=Starts)
    """How long a start may be stuck before it ends with its reason."""
    headroom: Headroom = Field(default_factory=Headroom)
    """Spare slots that are kept warm."""
    culling: Culling = Field(default_factory=Culling)
    """Ending of idle sessions."""
