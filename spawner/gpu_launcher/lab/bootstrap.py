"""The objects that a fresh control plane of the lab starts with: CRDs, KWOK stages, the system node."""

from __future__ import annotations

import asyncio
import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gpu_launcher.cluster.errors import KubeError
from gpu_launcher.cluster.paths import core, group

if TYPE_CHECKING:
    from gpu_launcher.cluster.api import KubeApi

SYSTEM_NODE = "lab-system"
"""The node that holds hub, proxy and jobs. It is not Karpenter's, as a managed node group would not be."""

SYSTEM_LABEL = "gpu-launcher-lab/system"

_CRDS = "apiextensions.k8s.io/v1"
_POLL_S = 0.05


async def create_crds(api: KubeApi, directories: list[Path]) -> None:
    """Create every CRD of the built servers and wait until the API server serves them."""
    documents = [json.loads(path.read_text()) for directory in directories for path in sorted(directory.glob("*.json"))]
    await asyncio.gather(*(_create_crd(api, document) for document in documents))


async def create_stages(api: KubeApi) -> None:
    """Create the KWOK stages of ``manifests/stages.yaml``."""
    text = resources.files("gpu_launcher.lab").joinpath("manifests/stages.yaml").read_text()
    path = group("kwok.x-k8s.io/v1alpha1", "stages")
    await asyncio.gather(*(api.post(path, document) for document in yaml.safe_load_all(text)))


async def create_system_node(api: KubeApi) -> None:
    """Create the system node; KWOK makes it Ready."""
    await api.post(core("nodes"), system_node())


async def wait_until_settled(api: KubeApi) -> None:
    """Wait until pods can be created and scheduled: the system node is Ready, the default ServiceAccount exists."""
    await asyncio.gather(_until(_node_is_ready, api), _until(_service_account_exists, api))


def system_node() -> dict[str, Any]:
    """The system node: 16 CPU, 64 GiB, in no zone, so that no volume is ever bound to it."""
    resources_ = {"cpu": "16", "memory": "64Gi", "ephemeral-storage": "200Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": SYSTEM_NODE,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {
                SYSTEM_LABEL: "true",
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": SYSTEM_NODE,
                "kubernetes.io/os": "linux",
            },
        },
        "status": {"capacity": resources_, "allocatable": resources_, "phase": "Pending"},
    }


async def _create_crd(api: KubeApi, document: dict[str, Any]) -> None:
    await api.post(group(_CRDS, "customresourcedefinitions"), document)
    spec = document["spec"]
    version = next(item["name"] for item in spec["versions"] if item["served"])
    path = group(f"{spec['group']}/{version}", spec["names"]["plural"])
    # Listing is the proof: the Established condition comes a moment before the paths are served.
    while True:
        try:
            await api.get(path, limit=1)
            return
        except KubeError as error:
            if error.status not in (404, 429, 503):
                raise
        await asyncio.sleep(_POLL_S)


async def _until(holds: Any, api: KubeApi) -> None:
    while True:
        try:
            if await holds(api):
                return
        except KubeError as error:
            if error.status not in (0, 404, 429, 503):
                raise
        await asyncio.sleep(_POLL_S)


async def _node_is_ready(api: KubeApi) -> bool:
    node = await api.get(core("nodes", name=SYSTEM_NODE))
    conditions = node["status"].get("conditions") or []
    # The taint goes after the condition; before, nothing is scheduled.
    return not node["spec"].get("taints") and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


async def _service_account_exists(api: KubeApi) -> bool:
    await api.get(core("serviceaccounts", namespace="default", name="default"))
    return True
