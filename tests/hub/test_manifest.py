"""A plan on traits and on pods, dict for dict."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes_asyncio.client import models

from gpu_launcher.domain.plan import PodPlan
from gpu_launcher.domain.quantity import GIB, MIB
from gpu_launcher.domain.resources import Resources
from gpu_launcher.hub.manifest import OWNED_TRAITS, finish_pod, planned_traits, required_terms

SPOT_OR_NOT = {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot", "on-demand"]}
ZONE = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["us-east-1a"]}
ARCH = {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}


def plan(**changes: Any) -> PodPlan:
    values: dict[str, Any] = {
        "profile_id": "a10g",
        "pool_id": "a10g-1",
        "image": "quay.io/site/pytorch:2.9",
        "resources": Resources(cpu_m=3590, memory=13868 * MIB, ephemeral=150 * GIB, gpus=1),
        "shm": 4 * GIB,
    }
    return PodPlan(**values | changes)


def site(**changes: Any) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(OWNED_TRAITS)
    for name in ("extra_resource_guarantees", "extra_resource_limits", "node_selector"):
        empty[name] = {}
    for name in ("node_affinity_required", "pod_affinity_preferred", "tolerations"):
        empty[name] = []
    return empty | {"image": "site:latest", "priority_class_name": "", "start_timeout": 60} | changes


def test_amounts_are_equal_as_requests_and_limits() -> None:
    traits = planned_traits(site(), plan())
    assert traits["cpu_limit"] == traits["cpu_guarantee"] == 3.59
    assert traits["mem_limit"] == traits["mem_guarantee"] == 13868 * MIB
    assert traits["extra_resource_limits"] == traits["extra_resource_guarantees"]
    assert traits["extra_resource_limits"] == {"nvidia.com/gpu": "1", "ephemeral-storage": "150Gi"}


def test_a_cpu_profile_takes_the_sites_gpu_away_and_keeps_its_other_devices() -> None:
    given = site(extra_resource_limits={"nvidia.com/gpu": "1", "github.com/fuse": "1"})
    traits = planned_traits(given, plan(resources=Resources(cpu_m=2000, memory=GIB)))
    assert traits["extra_resource_limits"] == {"github.com/fuse": "1"}
    assert given["extra_resource_limits"]["nvidia.com/gpu"] == "1", "the baseline is not written to"


def test_tolerations_and_pod_affinities_join_the_sites() -> None:
    ours = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    theirs = {"key": "hub.jupyter.org/dedicated", "operator": "Equal", "value": "user", "effect": "NoSchedule"}
    assert planned_traits(site(tolerations=[theirs, ours]), plan(tolerations=(ours,)))["tolerations"] == [theirs, ours]
    assert planned_traits(site(tolerations={"b": ours, "a": theirs}), plan())["tolerations"] == [theirs, ours]


@pytest.mark.parametrize(
    ("terms", "joined"),
    [
        ([], [{"matchExpressions": [SPOT_OR_NOT]}]),
        ([{"matchExpressions": [ZONE]}], [{"matchExpressions": [ZONE, SPOT_OR_NOT]}]),
        (
            [{"matchExpressions": [ZONE]}, {"matchExpressions": [ARCH]}],
            [{"matchExpressions": [ZONE, SPOT_OR_NOT]}, {"matchExpressions": [ARCH, SPOT_OR_NOT]}],
        ),
        (
            [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}],
            [
                {
                    "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}],
                    "matchExpressions": [SPOT_OR_NOT],
                }
            ],
        ),
        ([{}], [{}]),
    ],
    ids=["none", "one", "either-of-two", "fields", "empty-matches-nothing"],
)
def test_required_terms_hold_in_each_of_the_sites_terms(terms: list[Any], joined: list[Any]) -> None:
    assert required_terms(terms, [SPOT_OR_NOT]) == joined
    assert required_terms(joined, [SPOT_OR_NOT]) == joined, "twice changes nothing"


def pod(**container: Any) -> models.V1Pod:
    amounts = {"cpu": 3.59, "memory": 13868 * MIB}
    notebook = models.V1Container(
        name="notebook",
        resources=models.V1ResourceRequirements(requests=dict(amounts), limits=dict(amounts)),
        volume_mounts=[],
        **container,
    )
    return models.V1Pod(
        metadata=models.V1ObjectMeta(labels={"component": "singleuser-server"}, annotations={}),
        spec=models.V1PodSpec(containers=[notebook], volumes=[]),
    )


def test_o11_shared_memory_is_memory_backed_and_bounded() -> None:
    finished = finish_pod(pod(), plan())
    volume, mount = finished.spec.volumes[0], finished.spec.containers[0].volume_mounts[0]
    assert (volume.empty_dir.medium, volume.empty_dir.size_limit) == ("Memory", "4Gi")
    assert (mount.name, mount.mount_path) == (volume.name, "/dev/shm")


def test_o11_a_site_that_mounts_its_own_shared_memory_keeps_it() -> None:
    given = pod()
    given.spec.containers[0].volume_mounts = [models.V1VolumeMount(name="shm", mount_path="/dev/shm")]
    finished = finish_pod(given, plan())
    assert [mount.name for mount in finished.spec.containers[0].volume_mounts] == ["shm"]
    assert finished.spec.volumes == []


def test_amounts_are_written_as_exact_quantities_unless_a_hook_changed_them() -> None:
    given = pod()
    given.spec.containers[0].resources.limits["cpu"] = 8
    resources = finish_pod(given, plan()).spec.containers[0].resources
    assert resources.requests == {"cpu": "3590m", "memory": "13868Mi"}
    assert resources.limits == {"cpu": 8, "memory": "13868Mi"}


def test_annotations_may_hold_braces() -> None:
    finished = finish_pod(pod(), plan(annotations={"gpu-launcher/plan": '{"a":{"b":1}}'}, runtime_class="nvidia"))
    assert finished.metadata.annotations == {"gpu-launcher/plan": '{"a":{"b":1}}'}
    assert finished.metadata.labels == {"component": "singleuser-server"}
    assert finished.spec.runtime_class_name == "nvidia"
