"""Sizing: N slots really fit on every host of the pool."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.domain.instance_type import InstanceType
from gpu_launcher.domain.policy import ClusterPolicy
from gpu_launcher.domain.pool import SlotPool
from gpu_launcher.domain.profile import GpuRequest, Size
from gpu_launcher.domain.quantity import GIB, MIB
from gpu_launcher.domain.resources import Resources
from gpu_launcher.planning.pools import pool_for
from gpu_launcher.planning.sizing import disk_room, image_bytes, room_on, shm_of, slot_of, slots_on
from gpu_launcher.settings.catalogue import load_catalogue
from machines import CATALOGUE, JAX, TORCH, gpu_profile, machine

POLICY = ClusterPolicy()
SHARED = [kind for kind in load_catalogue() if kind.gpus > 1]


def _host(kind: InstanceType, policy: ClusterPolicy, scale: float = 1.0) -> Resources:
    """What the kubelet gives when it has that part of what the catalogue says."""
    given = replace(kind.allocatable, ephemeral=disk_room(policy.disk_bytes))
    return Resources(int(given.cpu_m * scale), int(given.memory * scale), int(given.ephemeral * scale), given.gpus)


@pytest.mark.parametrize("kind", SHARED, ids=lambda kind: kind.name)
@pytest.mark.parametrize("scale", [0.98, 1.0, 1.02])
def test_exactly_n_slots_fit_every_shared_machine(kind: InstanceType, scale: float) -> None:
    gpu = kind.gpu
    assert gpu is not None
    profile = gpu_profile(
        "p",
        gpu=GpuRequest(gpu.name, host_gpus=(gpu.count,)),
        instance_types=(kind.name,),
        node_selector={"kubernetes.io/arch": kind.arch},
    )
    pool = pool_for(profile, load_catalogue(), POLICY)
    assert isinstance(pool, SlotPool)
    used = pool.slot.times(gpu.count) + POLICY.daemonsets
    assert min(_host(kind, POLICY, scale) - used) >= 0
    assert min(_host(kind, POLICY, scale) - used - pool.slot) < 0


@given(
    n=st.sampled_from([1, 2, 4, 8]),
    cpu_m=st.integers(2000, 400_000),
    mib=st.integers(4000, 4_000_000),
    daemons=st.builds(Resources, st.integers(0, 1500), st.integers(0, 2 * GIB), st.integers(0, 5 * GIB)),
    reserve=st.floats(0, 0.2),
    disk=st.integers(20 * GIB, 2000 * GIB),
)
def test_slots_and_daemonsets_leave_the_reserve_and_are_round(
    n: int, cpu_m: int, mib: int, daemons: Resources, reserve: float, disk: int
) -> None:
    policy = ClusterPolicy(daemonsets=daemons, reserve=reserve, disk_bytes=disk)
    kind = machine(gpus=n, cpu_m=cpu_m, vcpu=cpu_m // 1000 + 1, mib=mib, memory_mib=mib + 500)
    if min(room_on(kind, policy, 0)) < 0:
        return
    slot = slot_of([kind], {kind.name: n}, gpus=1, policy=policy)
    whole = _host(kind, policy)
    kept = Resources(*(round(amount * (1 - round(reserve, 6))) + 1 for amount in whole))
    assert min(replace(kept, gpus=n) - slot.times(n) - daemons) >= 0
    assert slot.cpu_m % 10 == 0
    assert slot.memory % MIB == 0
    assert slot.ephemeral % MIB == 0


def test_the_reserve_is_two_percent_of_the_host_and_rounded_up() -> None:
    kind = machine(vcpu=4, cpu_m=3920, memory_mib=16384, mib=14162)
    room = room_on(kind, POLICY, 0)
    assert room.cpu_m == 3920 - 250 - 80
    assert room.memory == 14162 * MIB - 512 * MIB - 343_597_384


def test_a_slot_fits_each_type_of_the_pool() -> None:
    small, large = CATALOGUE[5], CATALOGUE[6]
    slots = {small.name: 1, large.name: 1}
    both = slot_of([small, large], slots, gpus=1, policy=POLICY)
    assert both == slot_of([small], slots, gpus=1, policy=POLICY)
    assert min(slot_of([large], slots, gpus=1, policy=POLICY) - both) >= 0


def test_a_slot_needs_a_type() -> None:
    with pytest.raises(ValueError, match="at least one"):
        slot_of([], {}, gpus=1, policy=POLICY)


def test_k17_ephemeral_storage_comes_from_the_disk_less_the_images() -> None:
    kind = CATALOGUE[5]
    plain = slot_of([kind], {kind.name: 1}, gpus=1, policy=POLICY)
    with_image = slot_of([kind], {kind.name: 1}, gpus=1, policy=POLICY, image_bytes=9 * 10**9)
    assert plain.ephemeral == 174 * GIB
    assert 9 * 10**9 <= plain.ephemeral - with_image.ephemeral < 9 * 10**9 + MIB


def test_images_that_two_profiles_share_lie_on_the_disk_once() -> None:
    assert image_bytes([TORCH, JAX, TORCH]) == 15_000_000_000
    assert image_bytes([replace(TORCH, bytes=None)]) == 0


@pytest.mark.parametrize(("gpus", "slots"), [(1, 8), (2, 4), (3, 2), (5, 1), (8, 1), (9, 0)])
def test_larger_sessions_take_several_gpus_of_a_host(gpus: int, slots: int) -> None:
    kind = CATALOGUE[8]
    assert slots_on(kind, gpus, Size(), room_on(kind, POLICY, 0)) == slots


def test_explicit_amounts_make_fewer_slots() -> None:
    kind = CATALOGUE[8]
    room = room_on(kind, POLICY, 0)
    assert slots_on(kind, 1, Size(memory=200 * GIB), room) == 3
    assert slots_on(kind, 1, Size(memory=2000 * GIB), room) == 0
    assert slots_on(kind, 1, Size(), room - Resources(cpu_m=10**9)) == 0


@given(st.integers(64 * MIB, 2000 * GIB), st.none() | st.integers(1, 3000 * GIB), st.integers(1, 8))
def test_o11_shared_memory_is_counted_inside_the_memory(memory: int, stated: int | None, copies: int) -> None:
    shm = shm_of(Size(shm=stated), memory, copies)
    assert 0 < shm <= memory
    if stated is None:
        assert shm <= min(memory // 4, 64 * GIB)


def test_o11_the_default_is_a_quarter_and_at_most_64_gib() -> None:
    assert shm_of(Size(), 16 * GIB) == 4 * GIB
    assert shm_of(Size(), 1000 * GIB) == 64 * GIB
    assert shm_of(Size(shm=GIB), 16 * GIB, copies=2) == 2 * GIB
