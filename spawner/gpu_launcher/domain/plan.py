"""The pod that a request becomes, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpu_launcher.domain.resources import Resources


@dataclass(frozen=True, slots=True)
class PodPlan:
    """Everything the launcher decides about a session's pod.

    ``resources`` are requests and limits alike. ``shm`` is the size of the memory-backed /dev/shm in bytes, counted
    inside the memory. ``node_affinity`` are match expressions that must all hold; ``pod_affinity_preferred`` are
    weighted pod affinity terms. ``image`` None keeps the hub's image.
    """

    profile_id: str
    pool_id: str
    image: str | None
    resources: Resources
    shm: int
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, str], ...] = ()
    node_affinity: tuple[Mapping[str, object], ...] = ()
    pod_affinity_preferred: tuple[Mapping[str, object], ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    runtime_class: str | None = None
    priority_class: str | None = None
    start_timeout_s: int = 900
