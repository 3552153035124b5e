"""Disks like EBS on the real control plane: zonal, on one node at a time, let go late by a lost node."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from gpu_launcher.cluster.api import KubeApi, Raw
from gpu_launcher.cluster.errors import KubeError
from gpu_launcher.cluster.paths import core, group
from gpu_launcher.lab.handle import Lab
from kubelets import Pods, namespace, node, pod
from provisioning import Pool, eventually

pytestmark = pytest.mark.lab

ZONE = "topology.kubernetes.io/zone"
HOME = {
    "volumeMounts": [{"name": "home", "mountPath": "/home/jovyan"}],
    "spec": {"volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "home"}}]},
}


@pytest.fixture
async def pods(api: KubeApi) -> AsyncIterator[Pods]:
    async with namespace(api) as name:
        yield Pods(api, name)


async def claim(pods: Pods) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    path = core("persistentvolumeclaims", namespace=pods.namespace)
    await pods.api.post(path, {"metadata": {"name": "home"}, "spec": spec})


async def volume(pods: Pods) -> Raw:
    path = core("persistentvolumeclaims", namespace=pods.namespace, name="home")
    bound = await pods.api.get(path)
    return await pods.api.get(core("persistentvolumes", name=bound["spec"]["volumeName"]))


async def attachments(pods: Pods, name: str) -> list[Raw]:
    found = await pods.api.get(group("storage.k8s.io/v1", "volumeattachments"))
    return [item for item in found["items"] if item["spec"]["source"].get("persistentVolumeName") == name]


def consumer(name: str, on: str, script: str = "sleep 60") -> Raw:
    """A pod that the scheduler binds to one node, as it must for its disk to be made."""
    body = pod(name, on, script, **{key: dict(value) if key == "spec" else value for key, value in HOME.items()})
    del body["spec"]["nodeName"]
    body["spec"] |= {
        "nodeSelector": {"kubernetes.io/hostname": on},
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 0,
    }
    return body


async def test_a_disk_keeps_what_was_written_and_goes_with_its_claim(lab: Lab, api: KubeApi, pods: Pods) -> None:
    async with node(api, {ZONE: "us-east-1b"}) as own:
        await claim(pods)
        await pods.create(consumer("writer", own, "echo kept > /home/jovyan/file; pwd; cat $HOME/file"))
        await pods.phase("writer", "Succeeded")
        disk = await volume(pods)
        name = disk["metadata"]["name"]
        assert (lab.paths.volumes / name / "file").read_text() == "kept\n"
        terms = disk["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
        assert terms[0]["matchExpressions"][0]["values"] == ["us-east-1b"]
        await pods.told("writer", "SuccessfulAttachVolume")
        await pods.delete("writer")
        await pods.create(consumer("reader", own, "grep kept /home/jovyan/file"))
        await pods.phase("reader", "Succeeded")
        await pods.delete("reader")
        await api.delete(core("persistentvolumeclaims", namespace=pods.namespace, name="home"))

        async def reclaimed() -> bool:
            return not (lab.paths.volumes / name).exists()

        await eventually(reclaimed, 30, "the disk is gone with its claim")


async def test_a_disk_in_zone_b_brings_the_next_session_to_zone_b(api: KubeApi, pods: Pods) -> None:
    pool = Pool(api, f"zonal-{pods.namespace[-6:]}")
    await pool.create(["g4dn.xlarge"], ["on-demand"], "1s")
    try:
        await claim(pods)
        zones = []
        for name, selector in (("first", {ZONE: "us-east-1b"}), ("second", {})):
            body = consumer(name, "any")
            body["spec"] |= {"nodeSelector": {"karpenter.sh/nodepool": pool.name, **selector}}
            body["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
            await pods.create(body)
            raw = await pods.phase(name, "Running", within=60)
            host = await api.get(core("nodes", name=raw["spec"]["nodeName"]))
            zones.append(host["metadata"]["labels"][ZONE])
            # The next session is to need a node of its own.
            await pods.delete(name)
            for item in await pool.claims():
                await api.delete(group("karpenter.sh/v1", "nodeclaims", name=item["metadata"]["name"]))

            async def gone() -> bool:
                return not await pool.nodes()

            await eventually(gone, 60, "the node is gone")
        assert zones == ["us-east-1b", "us-east-1b"]
    finally:
        await pool.remove()


async def test_k18_a_second_node_waits_for_the_first(api: KubeApi, pods: Pods) -> None:
    async with node(api, {ZONE: "us-east-1a"}) as one, node(api, {ZONE: "us-east-1a"}) as other:
        await claim(pods)
        await pods.create(consumer("holder", one))
        await pods.phase("holder", "Running")
        await pods.create(consumer("waiter", other))
        await pods.told("waiter", "FailedAttachVolume")
        assert (await pods.get("waiter"))["status"]["phase"] == "Pending"
        await pods.delete("holder")
        await pods.phase("waiter", "Running", within=60)
        name = (await volume(pods))["metadata"]["name"]
        assert [item["spec"]["nodeName"] for item in await attachments(pods, name)] == [other]
        await pods.delete("waiter")


async def test_k18_a_lost_node_lets_go_late(lab: Lab, api: KubeApi, pods: Pods) -> None:
    async with node(api, {ZONE: "us-east-1a"}) as lost, node(api, {ZONE: "us-east-1a"}) as other:
        await claim(pods)
        await pods.create(consumer("orphan", lost))
        await pods.phase("orphan", "Running")
        name = (await volume(pods))["metadata"]["name"]

        async def settled() -> bool:
            return bool((await api.get(core("nodes", name=lost)))["status"].get("volumesAttached"))

        # Before it has written this, kube-controller-manager takes the disk for mounted, and waits its own 6 minutes.
        await eventually(settled, 20, "the controller knows that the disk is attached")
        await api.delete(core("nodes", name=lost))
        with contextlib.suppress(KubeError):
            await pods.delete("orphan", gracePeriodSeconds=0)
        lost_at = time.monotonic()
        await pods.create(consumer("next", other))
        await pods.told("next", "Scheduled")
        assert [item["spec"]["nodeName"] for item in await attachments(pods, name)] == [lost]
        await pods.phase("next", "Running", within=lab.settings.detach_late_s + 60)
        assert time.monotonic() - lost_at > lab.settings.detach_late_s / 2
        await pods.delete("next")
