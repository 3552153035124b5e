"""From a profile to the machines that can serve it, and one slot on them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from gpu_launcher.domain.policy import ClusterPolicy
from gpu_launcher.domain.pool import NoPool, NoPoolReason, SlotPool
from gpu_launcher.domain.profile import GpuRequest, Image, Profile, Size
from gpu_launcher.domain.quantity import GIB, MIB, format_bytes, format_cpu
from gpu_launcher.domain.resources import Resources
from gpu_launcher.planning.dialects import LABELS, capacity_terms, gpu_terms, misspelt
from gpu_launcher.planning.matching import Types, by_price, gib, matching_types
from gpu_launcher.planning.sizing import disk_room, image_bytes, room_on, slot_of, slots_on

# Pods on CPU nodes do not share them in N equal parts, so a session there gets a fixed piece of the disk: enough for
# packages and caches, little enough for ten sessions on a disk of 200 GiB.
CPU_EPHEMERAL = 10 * GIB

_SAMPLED = (NoPoolReason.ARCH, NoPoolReason.NODE_SELECTOR, NoPoolReason.SIZE)

_LONGEST_BASE = 48
"""63 of a label value, less the longest capacity suffix and some air."""


def pools_for(profiles: Iterable[Profile], catalogue: Types, policy: ClusterPolicy) -> dict[str, SlotPool | NoPool]:
    """Return each profile's pool by profile id.

    Profiles with equal wishes share a pool and thus one slot size: the images of all of them are on its hosts' disks.
    """
    profiles = tuple(profiles)
    images: dict[str, dict[str, Image]] = {}
    for profile in profiles:
        images.setdefault(base_id(profile, catalogue, policy), {}).update({i.reference: i for i in profile.images})
    return {
        profile.id: pool_for(profile, catalogue, policy, images[base_id(profile, catalogue, policy)].values())
        for profile in profiles
    }


def pool_for(
    profile: Profile, catalogue: Types, policy: ClusterPolicy, images: Iterable[Image] | None = None
) -> SlotPool | NoPool:
    """Return the slot pool of one profile, or why no machine can serve it.

    *images* are those of every profile of the pool; None takes the profile's own. Prices are the catalogue's.
    """
    unsaid = _unsaid(profile, policy)
    if unsaid:
        return NoPool(NoPoolReason.DIALECT, unsaid)
    on_disk = image_bytes(profile.images if images is None else images)
    base = base_id(profile, catalogue, policy)
    if not checkable_types(profile, catalogue, policy):
        return _unchecked_pool(profile, base, policy, on_disk)
    matching = _on_wanted_hosts(profile, catalogue, policy)
    found = matching if isinstance(matching, NoPool) else _sized(profile, base, matching, policy, on_disk)
    if isinstance(found, NoPool) and _beyond_the_table(profile, found, catalogue, policy):
        return _unchecked_pool(profile, base, policy, on_disk)
    return found


def _beyond_the_table(profile: Profile, none: NoPool, catalogue: Types, policy: ClusterPolicy) -> bool:
    """Return whether the cloud may have a machine for it after all.

    The table holds every machine with a GPU and only some of the others: that no c7i, no arm64 and nothing above 16
    cores without a GPU is in it does not make them impossible.
    """
    if profile.gpu is not None or none.reason not in _SAMPLED:
        return False
    if profile.instance_types and {kind.name for kind in catalogue}.issuperset(profile.instance_types):
        return False
    prefix = LABELS[policy.dialect].prefix or ""
    # Exact amounts in a selector are a mistake on any machine, and so is a label that the cloud does not have.
    return not any(
        misspelt(key, policy.dialect) or key in (f"{prefix}instance-memory", f"{prefix}instance-gpu-name")
        for key in profile.node_selector
    )


def checkable_types(profile: Profile, catalogue: Types, policy: ClusterPolicy) -> bool:
    """Return whether the catalogue can judge the profile: the cloud is in it, and so is any type the profile lists."""
    if not LABELS[policy.dialect].catalogue:
        return False
    names = {kind.name for kind in catalogue}
    return not profile.instance_types or not names.isdisjoint(profile.instance_types)


def base_id(profile: Profile, catalogue: Types, policy: ClusterPolicy) -> str:
    """Return the pool's name without its capacity: ``a10g-1``, ``a100-80gi-8``, ``cpu-2-6gi``; a valid label value.

    Whatever else narrows the pool (sizes, types, selector) is in a short digest at the end.
    """
    size = _stated_size(profile)
    narrowing: dict[str, object] = {}
    if profile.instance_types:
        narrowing["types"] = sorted(profile.instance_types)
    if profile.node_selector:
        narrowing["selector"] = dict(profile.node_selector)
    if profile.gpu is None:
        readable = f"cpu-{format_cpu(size.cpu_m or 0)}-{format_bytes(size.memory or 0).lower()}"
        narrowing |= {"ephemeral": size.ephemeral} if size.ephemeral != CPU_EPHEMERAL else {}
    else:
        readable = _gpu_words(profile.gpu, _host_gpus(profile, catalogue, policy))
        amounts = [size.cpu_m, size.memory, size.ephemeral]
        narrowing |= {"size": amounts} if any(amount is not None for amount in amounts) else {}
    return _label(readable, narrowing)


def _label(readable: str, narrowing: Mapping[str, object]) -> str:
    if not narrowing and len(readable) <= _LONGEST_BASE:
        return readable
    text = json.dumps([readable, narrowing], sort_keys=True)
    return f"{readable[: _LONGEST_BASE - 7].rstrip('-.')}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _gpu_words(gpu: GpuRequest, host_gpus: tuple[int, ...]) -> str:
    memory = "" if gpu.memory_mib_at_least is None else f"{gib(gpu.memory_mib_at_least).replace(' GiB', 'gi')}"
    model = "-".join(part for part in (gpu.name or "gpu", memory) if part)
    hosts = "-".join(map(str, host_gpus)) or "0"
    return f"{model}-{hosts}" if gpu.count == 1 else f"{model}-{hosts}x{gpu.count}"


def _stated_size(profile: Profile) -> Size:
    if profile.gpu is None and profile.size.ephemeral is None:
        return replace(profile.size, ephemeral=max(profile.scratch, CPU_EPHEMERAL))
    return profile.size


def _unsaid(profile: Profile, policy: ClusterPolicy) -> str | None:
    dialect = policy.dialect
    if capacity_terms(dialect, profile.capacity) is None:
        return f"{dialect} labels cannot say capacity {profile.capacity}; choose on-demand or spot"
    gpu = profile.gpu
    if gpu is None:
        return None
    if gpu_terms(dialect, gpu.name, gpu.memory_mib_at_least) is None:
        memory = "" if gpu.memory_mib_at_least is None else f" with at least {gib(gpu.memory_mib_at_least)}"
        return (
            f"{dialect} has no known label value for GPU {gpu.name or 'of any name'}{memory}; name a GPU of the table "
            f"({', '.join(sorted(LABELS[dialect].gpu_values or ()))}), or say it with node_selector instead of "
            f"{'gpu.name' if not memory else 'gpu.memory'}"
        )
    return None


def _host_gpus(profile: Profile, catalogue: Types, policy: ClusterPolicy) -> tuple[int, ...]:
    """The host's GPU counts: as stated, else pinned to the smallest host that holds the largest session."""
    gpu = profile.gpu
    if gpu is None:
        return ()
    if gpu.host_gpus is not None:
        return gpu.host_gpus
    if not checkable_types(profile, catalogue, policy):
        return (gpu.max_count,)
    matching = matching_types(profile, catalogue, policy.dialect)
    if isinstance(matching, NoPool):
        return (gpu.max_count,)
    counts = [kind.gpus for kind in matching if kind.gpus >= gpu.max_count]
    return (min(counts),) if counts else (gpu.max_count,)


def _on_wanted_hosts(profile: Profile, catalogue: Types, policy: ClusterPolicy) -> Types | NoPool:
    matching = matching_types(profile, catalogue, policy.dialect)
    if isinstance(matching, NoPool) or profile.gpu is None:
        return matching
    host_gpus = _host_gpus(profile, catalogue, policy)
    kept = tuple(kind for kind in matching if kind.gpus in host_gpus and kind.gpus >= profile.gpu.max_count)
    if kept:
        return kept
    there = sorted({kind.gpus for kind in matching})
    wanted = " or ".join(map(str, host_gpus))
    nearest = min(matching, key=lambda kind: (abs(kind.gpus - max(host_gpus)), by_price(kind)))
    message = (
        f"no matching host has {wanted} GPUs and room for a session of {profile.gpu.max_count}; there are hosts with "
        f"{', '.join(map(str, there))}; nearest: {nearest.name} with {nearest.gpus}"
    )
    return NoPool(NoPoolReason.GPU_COUNT, message, nearest.name)


def _sized(profile: Profile, base: str, types: Types, policy: ClusterPolicy, on_disk: int) -> SlotPool | NoPool:
    size = _stated_size(profile)
    if profile.gpu is None and (size.cpu_m is None or size.memory is None):
        return NoPool(NoPoolReason.SIZE_NEEDED, "a profile without a GPU must state size.cpu and size.memory")
    gpus, largest = (profile.gpu.count, profile.gpu.max_count) if profile.gpu else (0, 0)
    rooms = {kind.name: room_on(kind, policy, on_disk) for kind in types}
    short = _short_of_disk(profile, rooms[types[0].name].ephemeral, policy, on_disk)
    if short:
        return short
    slots = {kind.name: slots_on(kind, gpus, size, rooms[kind.name]) for kind in types}
    # A user may pick the largest session on any host of the pool.
    least = largest // gpus if gpus else 1
    fitting = tuple(kind for kind in types if slots[kind.name] >= least)
    if not fitting:
        return _too_large(size, types, rooms)
    slot = slot_of(fitting, slots, gpus=gpus, policy=policy, image_bytes=on_disk, size=size)
    if min(slot.cpu_m, slot.memory) <= 0:
        return _too_large(size, types, rooms)
    ordered = tuple(sorted(fitting, key=lambda kind: by_price(kind, slots[kind.name])))
    first = ordered[0]
    pool = SlotPool(
        base_id=base,
        capacity=profile.capacity,
        instance_types=ordered,
        host_gpus=tuple(sorted({kind.gpus for kind in ordered})) if gpus else (),
        slot=slot,
        slots_per_host={kind.name: slots[kind.name] for kind in ordered},
        usd_per_hour=None if first.usd_per_hour is None else first.usd_per_hour / slots[first.name],
        image_bytes=on_disk,
    )
    return _short_of_disk(profile, slot.ephemeral, policy, on_disk) or pool


def _short_of_disk(profile: Profile, left: int, policy: ClusterPolicy, on_disk: int) -> NoPool | None:
    wanted = max(profile.scratch, profile.size.ephemeral or 0, MIB)
    if left >= wanted:
        return None
    message = (
        f"a disk of {format_bytes(policy.disk_bytes)} with {gib(on_disk // MIB)} of images leaves "
        f"{gib(max(0, left) // MIB)} for a session, which wants {gib(wanted // MIB)}; raise cluster.disk together with "
        "the node class's volume, or lower scratch"
    )
    return NoPool(NoPoolReason.DISK, message)


def _too_large(size: Size, types: Types, rooms: Mapping[str, Resources]) -> NoPool:
    largest = max(types, key=lambda kind: (rooms[kind.name].memory, rooms[kind.name].cpu_m, kind.name))
    room = rooms[largest.name]
    asked = [f"{format_cpu(size.cpu_m)} CPU"] if size.cpu_m else []
    asked += [f"{gib(size.memory // MIB)} memory"] if size.memory else []
    message = (
        f"no matching type has room for {' and '.join(asked) or 'a session'}; nearest: {largest.name} with "
        f"{format_cpu(max(0, room.cpu_m))} CPU and {gib(max(0, room.memory) // MIB)} memory for sessions"
    )
    return NoPool(NoPoolReason.SIZE, message, largest.name)


def _unchecked_pool(profile: Profile, base: str, policy: ClusterPolicy, on_disk: int) -> SlotPool | NoPool:
    size, gpu = profile.size, profile.gpu
    if size.cpu_m is None or size.memory is None:
        why = (
            f"none of instance_types ({', '.join(profile.instance_types)}) is in the table of machines; correct it, or "
            if LABELS[policy.dialect].catalogue
            else f"there is no table of machines for {policy.dialect}; "
        )
        return NoPool(NoPoolReason.SIZE_NEEDED, f"{why}state size.cpu and size.memory")
    ephemeral = size.ephemeral or max(profile.scratch, CPU_EPHEMERAL)
    left = disk_room(policy.disk_bytes) - on_disk - policy.daemonsets.ephemeral
    return _short_of_disk(profile, left, policy, on_disk) or SlotPool(
        base_id=base,
        capacity=profile.capacity,
        instance_types=(),
        host_gpus=_host_gpus(profile, (), policy),
        slot=Resources(size.cpu_m, size.memory, ephemeral, gpu.count if gpu else 0),
        image_bytes=on_disk,
    )
