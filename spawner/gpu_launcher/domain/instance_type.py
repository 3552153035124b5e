"""Machines that a cloud sells, as the autoscaler will see them."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_launcher.domain.quantity import MIB
from gpu_launcher.domain.resources import Resources


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPUs of one machine: the model's name in lower case, how many, and the memory of each in MiB.

    ``count`` is 0 for machines with a slice of a GPU (g6f): they have no whole GPU to give and serve no profile.
    """

    name: str
    count: int
    memory_mib: int


@dataclass(frozen=True, slots=True)
class InstanceType:
    """One machine type; ``allocatable`` is Karpenter's estimate, with ephemeral 0 (that is the node class's disk)."""

    name: str
    arch: str
    gpu: Gpu | None
    vcpu: int
    memory_mib: int
    allocatable: Resources
    pods: int
    local_nvme_gb: int
    network_mbps: int
    family: str
    size: str
    category: str
    generation: str
    usd_per_hour: float | None
    """On-demand price; None where no price is known."""

    @property
    def gpus(self) -> int:
        """Whole GPUs of the machine; 0 without any."""
        return self.gpu.count if self.gpu else 0

    @property
    def capacity(self) -> Resources:
        """What the machine has before the system takes its part; ephemeral 0."""
        return Resources(cpu_m=self.vcpu * 1000, memory=self.memory_mib * MIB, gpus=self.gpus)
