"""What the launcher knows of the cluster's objects: frozen facts, parsed from them without trust.

Times are Unix seconds; None is unknown or not yet. Empty texts stand for absent ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpu_launcher.domain.resources import Resources


@dataclass(frozen=True, slots=True)
class Condition:
    """A status condition; ``status`` is ``"True"``, ``"False"`` or ``"Unknown"``."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    since: float | None = None

    @property
    def true(self) -> bool:
        """Whether it holds."""
        return self.status == "True"


@dataclass(frozen=True, slots=True)
class ContainerView:
    """One container of a pod; ``state`` is ``waiting``, ``running``, ``terminated`` or "" (nothing known)."""

    name: str
    state: str = ""
    reason: str = ""
    message: str = ""
    ready: bool = False
    restarts: int = 0
    exit_code: int | None = None
    started_at: float | None = None
    last_reason: str = ""
    last_exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod. ``node_affinity`` holds the required terms: any term, all expressions of it."""

    namespace: str
    name: str
    uid: str = ""
    created_at: float | None = None
    deleting: bool = False
    phase: str = ""
    reason: str = ""
    message: str = ""
    node: str = ""
    ip: str = ""
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    containers: tuple[ContainerView, ...] = ()
    init_containers: tuple[ContainerView, ...] = ()
    images: tuple[str, ...] = ()
    """Of the containers, in the order of the spec; the first is the notebook's."""
    requests: Resources = field(default_factory=Resources)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    node_affinity: tuple[tuple[Expression, ...], ...] = ()
    toleration_keys: frozenset[str] = frozenset()
    claims: tuple[str, ...] = ()
    """Names of the PersistentVolumeClaims that it mounts."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether it holds no machine any more."""
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Expression:
    """A label requirement: ``In``, ``NotIn``, ``Exists``, ``DoesNotExist``, ``Gt``, ``Lt``."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node. ``images`` holds the names of one image each; ``images_complete`` is False at the kubelet's limit."""

    name: str
    uid: str = ""
    created_at: float | None = None
    deleting: bool = False
    ready: bool = False
    initialized: bool = False
    """Karpenter's own word; also True for nodes that are not Karpenter's."""
    disrupted: bool = False
    """Karpenter is about to take it away."""
    unschedulable: bool = False
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    taint_keys: frozenset[str] = frozenset()
    """Of taints that keep pods away (NoSchedule, NoExecute)."""
    labels: Mapping[str, str] = field(default_factory=dict)
    allocatable: Resources = field(default_factory=Resources)
    gpus_advertised: bool = False
    """Whether the device plugin has said how many GPUs there are."""
    images: tuple[tuple[str, ...], ...] = ()
    images_complete: bool = True
    instance_type: str = ""
    zone: str = ""
    capacity_type: str = ""
    node_pool: str = ""


@dataclass(frozen=True, slots=True)
class NodeClaimView:
    """A machine that Karpenter asks for. ``instance_type`` and ``zone`` are "" until it is launched."""

    name: str
    uid: str = ""
    created_at: float | None = None
    deleting: bool = False
    node_pool: str = ""
    requests: Resources = field(default_factory=Resources)
    requirements: tuple[Expression, ...] = ()
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    node: str = ""
    instance_type: str = ""
    zone: str = ""
    capacity_type: str = ""

    def reached(self, condition: str) -> bool:
        """Whether ``Launched``, ``Registered`` or ``Initialized`` holds."""
        found = self.conditions.get(condition)
        return found is not None and found.true


@dataclass(frozen=True, slots=True)
class NodePoolView:
    """A NodePool; ``limits`` and ``used`` only hold the resources that are limited (by their Kubernetes names)."""

    name: str
    deleting: bool = False
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    requirements: tuple[Expression, ...] = ()
    taint_keys: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    used: Mapping[str, float] = field(default_factory=dict)
    weight: int = 0

    @property
    def ready(self) -> bool | None:
        """Whether Karpenter accepts it; None before Karpenter has said anything."""
        found = self.conditions.get("Ready")
        return None if found is None or found.status == "Unknown" else found.true


@dataclass(frozen=True, slots=True)
class EventView:
    """A Kubernetes event: a hint, never evidence."""

    kind: str
    name: str
    uid: str = ""
    """Of the object that it is about."""
    reason: str = ""
    message: str = ""
    at: float | None = None
    """When it was last seen; ``first_at`` when first."""
    first_at: float | None = None
    count: int = 1
    source: str = ""
    warning: bool = False


@dataclass(frozen=True, slots=True)
class VolumeView:
    """A PersistentVolumeClaim with its volume; ``zones`` empty: any."""

    claim: str
    phase: str = ""
    volume: str = ""
    zones: tuple[str, ...] = ()
    access_modes: tuple[str, ...] = ()
    attached_to: tuple[str, ...] = ()
    """Nodes that hold the volume attached."""

    @property
    def one_node(self) -> bool:
        """Whether only one node at a time may use it."""
        return bool(self.access_modes) and not {"ReadWriteMany", "ReadOnlyMany"} & set(self.access_modes)
