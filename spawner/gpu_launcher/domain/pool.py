"""Slot pools: the machines that can serve a profile, and the room for one session on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from gpu_launcher.domain.instance_type import InstanceType
from gpu_launcher.domain.profile import Capacity
from gpu_launcher.domain.resources import Resources


@dataclass(frozen=True, slots=True)
class SlotPool:
    """The set of machines that can serve a profile, cheapest slot first, and one slot on them.

    ``slot`` holds ``slot.gpus`` GPUs and fits ``slots_per_host[name]`` times on each type. ``instance_types`` is empty
    where the launcher has no table of the cloud's machines; ``usd_per_hour`` is one slot on the cheapest type,
    on-demand, None where no price is known. ``host_gpus`` is empty for CPU pools.
    """

    base_id: str
    capacity: Capacity
    instance_types: tuple[InstanceType, ...]
    host_gpus: tuple[int, ...]
    slot: Resources
    slots_per_host: Mapping[str, int] = field(default_factory=dict)
    usd_per_hour: float | None = None
    image_bytes: int = 0
    """Disk that the images of the pool's profiles take on each host."""

    @property
    def id(self) -> str:
        """A valid label value: ``a10g-1``, or ``a10g-1-spot-first`` where the capacity is not on-demand."""
        return self.base_id if self.capacity is Capacity.ON_DEMAND else f"{self.base_id}-{self.capacity}"

    @property
    def shared(self) -> bool:
        """Whether two sessions may share a host, so that packing them frees hosts later."""
        if self.slots_per_host:
            return any(slots > 1 for slots in self.slots_per_host.values())
        return any(gpus >= 2 * self.slot.gpus for gpus in self.host_gpus)

    def with_capacity(self, capacity: Capacity) -> SlotPool:
        """Return the pool of the same machines bought another way."""
        return replace(self, capacity=capacity)


class NoPoolReason(StrEnum):
    """Why no machine can serve a profile."""

    GPU_NAME = "gpu_name"
    GPU_MEMORY = "gpu_memory"
    GPU_COUNT = "gpu_count"
    ARCH = "arch"
    NODE_SELECTOR = "node_selector"
    INSTANCE_TYPES = "instance_types"
    SIZE = "size"
    DISK = "disk"
    SIZE_NEEDED = "size_needed"
    """The cloud's machines are not in the catalogue, so the profile must state its size."""
    DIALECT = "dialect"
    """The cluster's labels cannot express the profile."""


@dataclass(frozen=True, slots=True)
class NoPool:
    """No machine can serve the profile: the reason, plain words for an admin, and the nearest type if there is one."""

    reason: NoPoolReason
    message: str
    nearest: str | None = None
