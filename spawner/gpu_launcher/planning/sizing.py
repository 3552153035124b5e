"""Exact slots: N sessions really fit on one host, beside its DaemonSets.

Karpenter chooses a machine by its own estimate of what the machine can give, before any node exists. A request 1 MiB
above an N-th part makes N sessions into N-1; a request above what the real node has is bought again and again and never
fits. So a slot is rounded down and leaves a reserve.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from gpu_launcher.domain.instance_type import InstanceType
from gpu_launcher.domain.policy import ClusterPolicy
from gpu_launcher.domain.profile import Image, Size
from gpu_launcher.domain.quantity import GIB, MIB
from gpu_launcher.domain.resources import Resources

SHM_MOST = 64 * GIB
_CPU_STEP = 10
_MILLION = 1_000_000


def room_on(kind: InstanceType, policy: ClusterPolicy, image_bytes: int) -> Resources:
    """Return what one host has for sessions: allocatable - DaemonSets - reserve - images; negative where it lacks.

    The reserve is a part of the *host's* amounts, which are larger than the allocatable ones; so N slots and the
    DaemonSets together stay below ``1 - reserve`` of the allocatable too.
    """
    allocatable = replace(kind.allocatable, ephemeral=disk_room(policy.disk_bytes) - image_bytes)
    host = replace(kind.capacity, ephemeral=policy.disk_bytes, gpus=0)
    per_million = round(policy.reserve * _MILLION)
    reserve = Resources(*(-(-amount * per_million // _MILLION) for amount in host))
    return allocatable - replace(policy.daemonsets, gpus=0) - reserve


def disk_room(disk_bytes: int) -> int:
    """Return the ephemeral storage in bytes that the kubelet gives of a disk: a tenth and 1 GiB are the system's."""
    return disk_bytes * 9 // 10 - GIB


def image_bytes(images: Iterable[Image]) -> int:
    """Return the bytes of all different images; unknown sizes count as 0 (lint says so)."""
    return sum({image.reference: image.bytes or 0 for image in images}.values())


def slots_on(kind: InstanceType, gpus: int, size: Size, room: Resources) -> int:
    """Return how many sessions of *gpus* GPUs and the explicit amounts fit on one host; 0 if none.

    A session with GPUs takes ``gpus`` whole ones: three on a host of eight make two slots, and two GPUs stay unused.
    """
    asked = Resources(size.cpu_m or 0, size.memory or 0, size.ephemeral or 0, gpus)
    if min(room) < 0:
        return 0
    return asked.copies_in(replace(room, gpus=kind.gpus)) if any(asked) else 0


def slot_of(
    types: Sequence[InstanceType],
    slots: Mapping[str, int],
    *,
    gpus: int,
    policy: ClusterPolicy,
    image_bytes: int = 0,
    size: Size | None = None,
) -> Resources:
    """Return the largest room for one session that fits ``slots[name]`` times on each of the types.

    CPU is rounded down to 10m, memory and ephemeral storage to 1 MiB. Amounts that *size* states are taken as they are.
    Raises ValueError without types.
    """
    if not types:
        raise ValueError("a slot needs at least one instance type")
    parts = [room_on(kind, policy, image_bytes).divided_by(slots[kind.name]) for kind in types]
    least = parts[0]
    for part in parts[1:]:
        least = least.least(part)
    size = size or Size()
    return Resources(
        cpu_m=_or(size.cpu_m, least.cpu_m // _CPU_STEP * _CPU_STEP),
        memory=_or(size.memory, least.memory // MIB * MIB),
        ephemeral=_or(size.ephemeral, least.ephemeral // MIB * MIB),
        gpus=gpus,
    )


def shm_of(size: Size, memory: int, copies: int = 1) -> int:
    """Return the bytes of /dev/shm for a session with that much memory, made of *copies* slots.

    PyTorch's loaders die in the container's default of 64 MB. The default is a quarter of the memory (it is counted
    inside it: more would let a loader eat the heap), at most 64 GiB.
    """
    if size.shm is not None:
        return min(size.shm * copies, memory)
    return min(memory // 4, SHM_MOST) // MIB * MIB


def _or(stated: int | None, computed: int) -> int:
    return computed if stated is None else stated
