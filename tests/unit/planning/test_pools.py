"""Slot pools: which machines serve a profile, and the nearest match where none does (row C4)."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from gpu_launcher.domain.policy import ClusterPolicy, Dialect
from gpu_launcher.domain.pool import NoPool, NoPoolReason, SlotPool
from gpu_launcher.domain.profile import Capacity, GpuRequest, Image, Profile, Size
from gpu_launcher.domain.quantity import GIB
from gpu_launcher.domain.resources import Resources
from gpu_launcher.planning.pools import pool_for, pools_for
from machines import CATALOGUE, JAX, TORCH, cpu_profile, gpu_profile

POLICY = ClusterPolicy()


def _pool(profile: Profile, policy: ClusterPolicy = POLICY) -> SlotPool:
    pool = pool_for(profile, CATALOGUE, policy)
    assert isinstance(pool, SlotPool), pool
    return pool


def _none(profile: Profile, policy: ClusterPolicy = POLICY) -> NoPool:
    none = pool_for(profile, CATALOGUE, policy)
    assert isinstance(none, NoPool), none
    return none


def _names(pool: SlotPool) -> list[str]:
    return [kind.name for kind in pool.instance_types]


@pytest.mark.parametrize(
    ("gpu", "base", "names", "host_gpus"),
    [
        (GpuRequest("a10g"), "a10g-1", ["g5.xlarge", "g5.2xlarge"], (1,)),
        (GpuRequest("a10g", count=2, max_count=2), "a10g-4x2", ["g5.12xlarge"], (4,)),
        (GpuRequest("a10g", max_count=8), "a10g-8", ["g5.48xlarge"], (8,)),
        (GpuRequest("a10g", host_gpus=(1, 4)), "a10g-1-4", ["g5.xlarge", "g5.2xlarge", "g5.12xlarge"], (1, 4)),
        (GpuRequest("a100"), "a100-8", ["p4d.24xlarge", "p4de.24xlarge"], (8,)),
        (GpuRequest("a100", memory_mib_at_least=81920), "a100-80gi-8", ["p4de.24xlarge"], (8,)),
        (GpuRequest("h100"), "h100-1", ["p5.4xlarge"], (1,)),
        (GpuRequest("l4"), "l4-1", ["g6.xlarge"], (1,)),
        (GpuRequest("t4"), "t4-1", ["g4dn.xlarge"], (1,)),
        (
            GpuRequest(memory_mib_at_least=22 * 1024),
            "gpu-22gi-1",
            ["g6.xlarge", "g5.xlarge", "g5.2xlarge", "p5.4xlarge"],
            (1,),
        ),
    ],
)
def test_the_host_is_pinned_to_the_smallest_that_holds_the_largest_session(
    gpu: GpuRequest, base: str, names: list[str], host_gpus: tuple[int, ...]
) -> None:
    pool = _pool(gpu_profile("p", gpu=gpu))
    assert (pool.base_id, _names(pool), pool.host_gpus) == (base, names, host_gpus)


def test_an_eighth_of_a_host_costs_an_eighth() -> None:
    pool = _pool(gpu_profile("a100", gpu=GpuRequest("a100", memory_mib_at_least=81920)))
    assert pool.slots_per_host == {"p4de.24xlarge": 8}
    assert pool.usd_per_hour == pytest.approx(27.44705 / 8)
    assert pool.shared
    assert not _pool(gpu_profile()).shared


def test_types_come_cheapest_slot_first_and_unknown_prices_last() -> None:
    assert _names(_pool(gpu_profile("p", gpu=GpuRequest(host_gpus=(8,)))))[-1] == "p5e.48xlarge"
    assert _pool(gpu_profile("h200")).usd_per_hour is None


def test_a_slice_of_a_gpu_serves_no_profile() -> None:
    assert "g6f.xlarge" not in _names(_pool(gpu_profile("p", gpu=GpuRequest())))


def test_arm_machines_serve_only_profiles_that_say_so() -> None:
    none = _none(gpu_profile("t4g"))
    assert none.reason is NoPoolReason.ARCH
    assert "node_selector kubernetes.io/arch: arm64" in none.message
    assert _names(_pool(gpu_profile("t4g", node_selector={"kubernetes.io/arch": "arm64"}))) == ["g5g.xlarge"]


@pytest.mark.parametrize(
    ("profile", "reason", "message", "nearest"),
    [
        (
            gpu_profile("p", gpu=GpuRequest("a100", memory_mib_at_least=96 * 1024)),
            NoPoolReason.GPU_MEMORY,
            "no type has gpu name a100 and 96 GiB; nearest: a100 80 GiB p4de.24xlarge",
            "p4de.24xlarge",
        ),
        (gpu_profile("a10"), NoPoolReason.GPU_NAME, "no type has gpu name a10; nearest: a10g g5.xlarge", "g5.xlarge"),
        (gpu_profile("zzzzz"), NoPoolReason.GPU_NAME, "known names: a100, a10g, h100, h200, l4, t4, t4g", None),
        (
            gpu_profile("p", gpu=GpuRequest("a10g", count=16, max_count=16)),
            NoPoolReason.GPU_COUNT,
            "room for a session of 16; there are hosts with 1, 4, 8; nearest: g5.48xlarge with 8",
            "g5.48xlarge",
        ),
        (
            gpu_profile("a10g", size=Size(memory=300 * GIB)),
            NoPoolReason.SIZE,
            "no matching type has room for 300 GiB memory; nearest: g5.2xlarge",
            "g5.2xlarge",
        ),
        (
            gpu_profile("a100", node_selector={"karpenter.k8s.aws/instance-memory": "81920"}),
            NoPoolReason.NODE_SELECTOR,
            "gpu name a100 and karpenter.k8s.aws/instance-memory: 81920; nearest: p4d.24xlarge with 1179648",
            "p4d.24xlarge",
        ),
        (
            gpu_profile("a10g", node_selector={"karpenter.k8s.aws/instance-famly": "g5"}),
            NoPoolReason.NODE_SELECTOR,
            "nodes have no label karpenter.k8s.aws/instance-famly; nearest: karpenter.k8s.aws/instance-family",
            None,
        ),
        (
            gpu_profile("a10g", instance_types=("p5.4xlarge",)),
            NoPoolReason.INSTANCE_TYPES,
            "no matching type is in instance_types (p5.4xlarge); nearest:",
            "g5.xlarge",
        ),
        (gpu_profile("a10g", scratch=500 * GIB), NoPoolReason.DISK, "raise cluster.disk", None),
        (
            gpu_profile("a100", scratch=100 * GIB),
            NoPoolReason.DISK,
            "leaves 21.8 GiB for a session, which wants 100 GiB",
            None,
        ),
        (
            cpu_profile(node_selector={"karpenter.k8s.aws/instance-memory": "81920"}),
            NoPoolReason.NODE_SELECTOR,
            "no type has karpenter.k8s.aws/instance-memory: 81920; nearest: m6i.large",
            None,
        ),
        (cpu_profile(size=Size()), NoPoolReason.SIZE_NEEDED, "must state size.cpu and size.memory", None),
    ],
)
def test_c4_the_impossible_is_named_with_the_nearest_match(
    profile: Profile, reason: NoPoolReason, message: str, nearest: str | None
) -> None:
    none = _none(profile)
    assert none.reason is reason
    assert message in none.message
    assert nearest in (None, none.nearest)


def test_k17_an_image_larger_than_the_disk_is_impossible() -> None:
    huge = Image("huge", "Huge", "quay.io/team/huge:1", 190 * GIB)
    none = _none(gpu_profile(images=(huge,)))
    assert none.reason is NoPoolReason.DISK
    assert "190 GiB of images" in none.message


def test_explicit_sizes_leave_small_types_out_and_fill_the_rest_from_the_slot() -> None:
    pool = _pool(gpu_profile("a10g", size=Size(memory=20 * GIB)))
    assert _names(pool) == ["g5.2xlarge"]
    assert pool.slot.memory == 20 * GIB
    assert pool.slot.cpu_m == 7500
    assert re.fullmatch(r"a10g-1-[0-9a-f]{6}", pool.base_id)


def test_a_pool_leaves_out_types_on_which_the_largest_session_does_not_fit() -> None:
    size = Size(cpu_m=10_000, memory=60 * GIB)
    profile = gpu_profile("a10g", gpu=GpuRequest("a10g", max_count=4, host_gpus=(4, 8)), size=size)
    # Two such slots fit the host with four GPUs, a session of four does not.
    assert _names(_pool(profile)) == ["g5.48xlarge"]


def test_cpu_sessions_get_a_fixed_piece_of_the_disk() -> None:
    pool = _pool(cpu_profile())
    assert pool.base_id == "cpu-2-6gi"
    assert pool.slot == Resources(2000, 6 * GIB, 10 * GIB)
    assert pool.slots_per_host["m6i.4xlarge"] == 7
    assert "m6i.large" not in _names(pool)
    assert _pool(cpu_profile(scratch=30 * GIB)).slot.ephemeral == 30 * GIB


def test_profiles_of_one_pool_share_the_slot_and_the_disk_of_all_their_images() -> None:
    one = gpu_profile("one", "a10g", images=(TORCH,))
    two = gpu_profile("two", "a10g", images=(TORCH, JAX), groups=("vision",))
    pools = pools_for([one, two, gpu_profile("t4")], CATALOGUE, POLICY)
    assert isinstance(pools["one"], SlotPool)
    assert pools["one"] == pools["two"]
    assert pools["one"].image_bytes == 15_000_000_000
    assert _pool(one).slot.ephemeral > pools["one"].slot.ephemeral


def test_pools_do_not_depend_on_the_order_of_the_catalogue() -> None:
    profiles = [gpu_profile("a10g"), gpu_profile("p", gpu=GpuRequest(memory_mib_at_least=20000)), cpu_profile()]
    assert pools_for(profiles, CATALOGUE, POLICY) == pools_for(profiles, CATALOGUE[::-1], POLICY)


def test_the_way_of_buying_is_part_of_the_pool() -> None:
    pool = _pool(gpu_profile("a10g", capacity=Capacity.SPOT_FIRST))
    assert (pool.base_id, pool.id) == ("a10g-1", "a10g-1-spot-first")
    assert pool.with_capacity(Capacity.ON_DEMAND).id == "a10g-1"


def test_ids_are_label_values_however_long_the_wishes() -> None:
    gpu = GpuRequest("a10g", host_gpus=(1, 4, 8), memory_mib_at_least=20_001)
    profile = gpu_profile(
        "p", gpu=gpu, capacity=Capacity.SPOT_FIRST, size=Size(memory=5 * GIB), instance_types=("g5.xlarge",)
    )
    assert re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", _pool(profile).id)


def test_other_clouds_need_a_size_because_their_machines_are_not_known() -> None:
    policy = ClusterPolicy(dialect=Dialect.GKE)
    none = _none(gpu_profile("l4"), policy)
    assert none.reason is NoPoolReason.SIZE_NEEDED
    assert "there is no table of machines for gke" in none.message
    pool = _pool(gpu_profile("l4", size=Size(cpu_m=7000, memory=28 * GIB)), policy)
    assert (pool.instance_types, pool.host_gpus, pool.slot) == ((), (1,), Resources(7000, 28 * GIB, 10 * GIB, 1))
    assert not pool.shared


@pytest.mark.parametrize(
    ("dialect", "profile", "words"),
    [
        (Dialect.GKE, gpu_profile("l4", capacity=Capacity.SPOT_FIRST), "gke labels cannot say capacity spot-first"),
        (Dialect.GKE, gpu_profile("l4", capacity=Capacity.RESERVED), "gke labels cannot say capacity reserved"),
        (Dialect.GKE, gpu_profile("a10g"), "no known label value for GPU a10g"),
        (Dialect.AKS, gpu_profile("p", gpu=GpuRequest("a100", memory_mib_at_least=81920)), "with at least 80 GiB"),
    ],
)
def test_c4_a_wish_that_the_labels_cannot_say_is_refused_not_guessed(
    dialect: Dialect, profile: Profile, words: str
) -> None:
    none = _none(profile, ClusterPolicy(dialect=dialect))
    assert none.reason is NoPoolReason.DIALECT
    assert words in none.message


def test_types_outside_the_table_work_with_a_stated_size() -> None:
    profile = gpu_profile("p", gpu=GpuRequest(), instance_types=("g9.xlarge",))
    assert _none(profile).reason is NoPoolReason.SIZE_NEEDED
    pool = _pool(gpu_profile("p", gpu=GpuRequest(), instance_types=("g9.xlarge",), size=Size(4000, 8 * GIB)))
    assert pool.instance_types == ()


@pytest.mark.parametrize(
    "profile",
    [
        cpu_profile(size=Size(cpu_m=64_000, memory=GIB)),
        cpu_profile(node_selector={"karpenter.k8s.aws/instance-family": "c7i"}),
        cpu_profile(node_selector={"kubernetes.io/arch": "arm64"}),
    ],
)
def test_machines_without_a_gpu_that_are_not_in_the_table_are_unchecked_not_impossible(profile: Profile) -> None:
    pool = _pool(profile)
    assert pool.instance_types == ()
    assert (pool.slot.cpu_m, pool.slot.memory) == (profile.size.cpu_m, profile.size.memory)


def test_k17_the_disk_is_checked_where_machines_are_not_known() -> None:
    profile = gpu_profile("l4", size=Size(cpu_m=4000, memory=GIB), scratch=500 * GIB)
    assert _none(profile, replace(POLICY, dialect=Dialect.GKE)).reason is NoPoolReason.DISK
