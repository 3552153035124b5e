"""Placement: the pod that a request becomes, field by field."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.domain.identity import SessionIdentity, label_hash
from gpu_launcher.domain.plan import PodPlan
from gpu_launcher.domain.policy import ClusterPolicy, Dialect
from gpu_launcher.domain.pool import SlotPool
from gpu_launcher.domain.profile import Capacity, GpuRequest, Profile, ProfileLimits, Size
from gpu_launcher.domain.quantity import GIB
from gpu_launcher.domain.request import StartRequest
from gpu_launcher.planning.placement import place
from gpu_launcher.planning.pools import pool_for
from machines import CATALOGUE, IDENTITY, TORCH, cpu_profile, gpu_profile

POLICY = ClusterPolicy()
AWS = "karpenter.k8s.aws/instance-"
CAPACITY = "karpenter.sh/capacity-type"
ARCH = {"kubernetes.io/arch": "amd64"}


def _plan(
    profile: Profile,
    policy: ClusterPolicy = POLICY,
    identity: SessionIdentity = IDENTITY,
    **asked: Any,
) -> PodPlan:
    pool = pool_for(profile, CATALOGUE, policy)
    assert isinstance(pool, SlotPool), pool
    gpus = asked.pop("gpus", profile.gpu.count if profile.gpu else 0)
    return place(profile, StartRequest(profile.id, gpus=gpus, **asked), pool, policy, identity, {"gpu_launcher": "1"})


def test_a_session_with_a_gpu_of_its_own_host() -> None:
    plan = _plan(gpu_profile("a10g", images=(TORCH,)))
    assert plan.node_selector == ARCH | {f"{AWS}gpu-name": "a10g", f"{AWS}gpu-count": "1"}
    assert plan.node_affinity == ({"key": CAPACITY, "operator": "NotIn", "values": ["spot"]},)
    assert plan.tolerations == ({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},)
    assert plan.pod_affinity_preferred == ()
    assert (plan.image, plan.pool_id, plan.resources.gpus) == ("quay.io/team/torch:1", "a10g-1", 1)
    assert plan.shm == plan.resources.memory // 4 // 1024**2 * 1024**2


def test_sessions_on_shared_hosts_are_packed_and_pinned_to_the_host_size() -> None:
    plan = _plan(gpu_profile("a100", gpu=GpuRequest("a100", memory_mib_at_least=81920)))
    assert plan.node_selector[f"{AWS}gpu-count"] == "8"
    assert {"key": f"{AWS}gpu-memory", "operator": "Gt", "values": ["81919"]} in plan.node_affinity
    assert plan.pod_affinity_preferred == (
        {
            "weight": 100,
            "podAffinityTerm": {
                "labelSelector": {"matchLabels": {"gpu-launcher/pool": "a100-80gi-8"}},
                "topologyKey": "kubernetes.io/hostname",
            },
        },
    )


def test_a_shared_pool_of_several_host_sizes_is_one_expression() -> None:
    plan = _plan(gpu_profile("a10g", gpu=GpuRequest("a10g", host_gpus=(1, 4))))
    assert f"{AWS}gpu-count" not in plan.node_selector
    assert {"key": f"{AWS}gpu-count", "operator": "In", "values": ["1", "4"]} in plan.node_affinity
    assert plan.pod_affinity_preferred


def test_a_session_without_a_gpu_stays_off_gpu_nodes() -> None:
    plan = _plan(cpu_profile())
    assert plan.node_selector == ARCH
    assert plan.tolerations == ()
    assert {"key": f"{AWS}gpu-count", "operator": "DoesNotExist"} in plan.node_affinity
    assert (plan.resources.cpu_m, plan.resources.memory, plan.resources.gpus) == (2000, 6 * GIB, 0)


@pytest.mark.parametrize(
    ("capacity", "operator", "values"),
    [
        (Capacity.ON_DEMAND, "NotIn", ["spot"]),
        (Capacity.SPOT_FIRST, "In", ["spot", "on-demand", "reserved"]),
        (Capacity.SPOT, "In", ["spot"]),
        (Capacity.RESERVED, "In", ["reserved"]),
    ],
)
def test_how_a_machine_is_bought_is_one_affinity(capacity: Capacity, operator: str, values: list[str]) -> None:
    plan = _plan(gpu_profile(capacity=capacity))
    assert plan.node_affinity[0] == {"key": CAPACITY, "operator": operator, "values": values}
    assert plan.labels["gpu-launcher/capacity"] == capacity


def test_a_ticked_spot_turns_on_demand_into_spot_first_where_it_is_offered() -> None:
    offered = gpu_profile(spot_choice=True)
    assert _plan(offered, spot=True).labels["gpu-launcher/capacity"] == "spot-first"
    assert _plan(offered, spot=True).pool_id == "a10g-1-spot-first"
    assert _plan(offered).labels["gpu-launcher/capacity"] == "on-demand"
    assert _plan(gpu_profile(), spot=True).labels["gpu-launcher/capacity"] == "on-demand"
    assert _plan(gpu_profile(capacity=Capacity.SPOT), spot=True).labels["gpu-launcher/capacity"] == "spot"


def test_more_gpus_are_more_slots() -> None:
    profile = gpu_profile("a10g", gpu=GpuRequest("a10g", max_count=4))
    one, four = _plan(profile, gpus=1), _plan(profile, gpus=4)
    assert four.resources == one.resources.times(4)
    assert four.annotations["gpu-launcher/gpus"] == "4"
    assert four.shm <= four.resources.memory // 4


@pytest.mark.parametrize("gpus", [0, 3, 5, 8])
def test_a_request_that_is_not_of_the_pool_is_a_defect(gpus: int) -> None:
    with pytest.raises(ValueError, match=r"are not 1 to 2 slots of the pool a10g-4x2"):
        _plan(gpu_profile("p", gpu=GpuRequest("a10g", count=2, max_count=4)), gpus=gpus)


def test_an_unknown_image_never_reaches_a_pod() -> None:
    with pytest.raises(ValueError, match="has no image"):
        _plan(gpu_profile(images=(TORCH,)), image_id="other")


def test_c11_protection_is_the_maximum_age_or_true() -> None:
    assert _plan(gpu_profile()).annotations["karpenter.sh/do-not-disrupt"] == "true"
    aged = gpu_profile(limits=ProfileLimits(max_age_s=129600))
    assert _plan(aged).annotations["karpenter.sh/do-not-disrupt"] == "36h0m0s"


def test_admins_selectors_and_types_are_added() -> None:
    profile = gpu_profile(
        node_selector={"team": "vision", f"{AWS}family": "g5"}, instance_types=("g5.2xlarge", "g5.xlarge", "typo.1")
    )
    plan = _plan(profile)
    assert plan.node_selector["team"] == "vision"
    expression = {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["g5.2xlarge", "g5.xlarge"]}
    assert expression in plan.node_affinity


def test_a_single_type_goes_into_the_selector() -> None:
    plan = _plan(gpu_profile(instance_types=("g5.xlarge",)))
    assert plan.node_selector["node.kubernetes.io/instance-type"] == "g5.xlarge"


def test_what_the_admin_decides_is_carried() -> None:
    policy = replace(POLICY, priority_class="users", toleration_keys=("nvidia.com/gpu", "team"))
    plan = _plan(gpu_profile(runtime_class="nvidia", start_timeout_s=1200), policy)
    assert (plan.runtime_class, plan.priority_class, plan.start_timeout_s) == ("nvidia", "users", 1200)
    assert [toleration["key"] for toleration in plan.tolerations] == ["nvidia.com/gpu", "team"]


@pytest.mark.parametrize(
    ("dialect", "gpu", "selector", "expressions"),
    [
        (
            Dialect.EKS_AUTO,
            GpuRequest("l4"),
            {"eks.amazonaws.com/instance-gpu-name": "l4", "eks.amazonaws.com/instance-gpu-count": "1"},
            [{"key": CAPACITY, "operator": "NotIn", "values": ["spot"]}],
        ),
        (
            Dialect.GKE,
            GpuRequest("a100", memory_mib_at_least=81920),
            {
                "cloud.google.com/gke-accelerator": "nvidia-a100-80gb",
                "cloud.google.com/gke-accelerator-count": "1",
            },
            [{"key": "cloud.google.com/gke-spot", "operator": "NotIn", "values": ["true"]}],
        ),
        (
            Dialect.AKS,
            GpuRequest("t4"),
            {"karpenter.azure.com/sku-gpu-name": "T4", "karpenter.azure.com/sku-gpu-count": "1"},
            [{"key": CAPACITY, "operator": "NotIn", "values": ["spot"]}],
        ),
        (
            Dialect.GFD,
            GpuRequest("h100"),
            {"nvidia.com/gpu.count": "1"},
            [
                {"key": CAPACITY, "operator": "NotIn", "values": ["spot"]},
                {
                    "key": "nvidia.com/gpu.product",
                    "operator": "In",
                    "values": ["NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe"],
                },
            ],
        ),
        (
            Dialect.GFD,
            GpuRequest(),
            {"nvidia.com/gpu.count": "1"},
            [
                {"key": CAPACITY, "operator": "NotIn", "values": ["spot"]},
                {"key": "nvidia.com/gpu.product", "operator": "Exists"},
            ],
        ),
    ],
)
def test_each_cloud_is_spoken_to_in_its_own_labels(
    dialect: Dialect, gpu: GpuRequest, selector: dict[str, str], expressions: list[dict[str, object]]
) -> None:
    profile = gpu_profile("p", gpu=gpu, size=Size(3000, 12 * GIB))
    plan = _plan(profile, ClusterPolicy(dialect=dialect))
    assert plan.node_selector == ARCH | selector
    assert list(plan.node_affinity) == expressions


@given(st.text(max_size=200), st.text(max_size=200), st.lists(st.text(max_size=100), max_size=8))
def test_o10_whatever_the_names_labels_are_valid_and_hide_them(user: str, server: str, groups: list[str]) -> None:
    identity = SessionIdentity("hub", label_hash(user), label_hash(server), "0" * 12, tuple(groups))
    plan = _plan(gpu_profile(), identity=identity)
    for value in plan.labels.values():
        assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", value)
    assert json.loads(plan.annotations["gpu-launcher/groups"]) == sorted(groups)


def test_o10_thousands_of_groups_do_not_break_the_pod() -> None:
    identity = replace(IDENTITY, groups=tuple(f"group-{n:05}" * 5 for n in range(5000)))
    assert len(_plan(gpu_profile(), identity=identity).annotations["gpu-launcher/groups"]) <= 32_768


def test_the_decision_can_be_repeated_from_the_pod_alone() -> None:
    plan = _plan(gpu_profile("a100", images=(TORCH,)))
    record = json.loads(plan.annotations["gpu-launcher/plan"])
    wanted = {"profile": "a100", "image": None, "image_unlisted": None, "gpus": 1, "spot": False, "fallback": False}
    assert record["request"] == wanted
    assert record["slot"] == {"cpu": "11690m", "memory": "132325Mi", "ephemeral": "21199Mi", "gpus": 1}
    assert record["types"]["p4d.24xlarge"]["slots"] == 8
    assert record["cluster"]["images"] == 9_000_000_000
    assert record["versions"] == {"gpu_launcher": "1"}
    assert plan.annotations["gpu-launcher/config-hash"] == "0123456789ab"


def test_equal_requests_make_equal_pods() -> None:
    assert _plan(gpu_profile(images=(TORCH,))) == _plan(gpu_profile(images=(TORCH,)))
