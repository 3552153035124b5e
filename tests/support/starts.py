"""Test vocabulary for starts on a real hub: who starts what, and which machines that bought."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpu_launcher.cluster.api import KubeApi, Raw
from gpu_launcher.cluster.paths import core, group
from gpu_launcher.lab.handle import Lab
from gpu_launcher.lab.hub import Hub
from gpu_launcher.settings.catalogue import load_catalogue
from provisioning import CAPACITY_TYPE, INSTANCE_TYPE, KARPENTER, eventually

GPU_POOL = "gpu-launcher-gpu"

CANARY = "canary-in-every-environment"

DOCUMENT: dict[str, Any] = {
    "version": 1,
    "profiles": [
        {"id": "cpu", "display_name": "CPU", "default": True, "size": {"cpu": "1", "memory": "2Gi"}},
        {
            "id": "a10g",
            "display_name": "A10G · 24 GB",
            "gpu": {"name": "a10g"},
            "images": [
                {"id": "pytorch", "display_name": "PyTorch", "reference": "example.org/pytorch:2.9", "size": "8G"},
                {"id": "jax", "display_name": "JAX", "reference": "example.org/jax:0.7", "size": "4G"},
            ],
            "spot_choice": True,
        },
        {"id": "spot-l4", "display_name": "L4, spot first", "gpu": {"name": "l4"}, "capacity": "spot-first"},
    ],
    "limits": {"gpus_per_user": 2},
    "starts": {"no_capacity": "15s"},
}


def launcher_config(document: Mapping[str, Any]) -> str:
    """Text for jupyterhub_config.py, as an admin would write it."""
    arguments = {key: value for key, value in document.items() if key != "version"}
    return (
        "import json\n"
        "from gpu_launcher import configure\n"
        f"configure(c, **json.loads({json.dumps(arguments)!r}))\n"
        "c.JupyterHub.allow_named_servers = True\n"
        f'c.KubeSpawner.environment = {{"SITE_SECRET": "{CANARY}"}}\n'
    )


# What an admin writes today for the same GPU, without the launcher.
PLAIN_CONFIG = """
c.KubeSpawner.cpu_limit = c.KubeSpawner.cpu_guarantee = 3.5
c.KubeSpawner.mem_limit = c.KubeSpawner.mem_guarantee = "12G"
c.KubeSpawner.extra_resource_limits = {"nvidia.com/gpu": "1"}
c.KubeSpawner.node_selector = {"karpenter.k8s.aws/instance-gpu-name": "a10g"}
c.KubeSpawner.tolerations = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
"""


async def pod_of(api: KubeApi, hub: Hub, user: str, within: float = 30) -> Raw:
    """Wait for the user's session pod to exist and return it."""

    async def found() -> Raw | None:
        pods = await api.get(core("pods", namespace=hub.namespace), labelSelector="component=singleuser-server")
        for pod in pods["items"]:
            mine = pod["metadata"]["annotations"].get("hub.jupyter.org/username") == user
            if mine and not pod["metadata"].get("deletionTimestamp"):
                result: Raw = pod
                return result
        return None

    pod: Raw = await eventually(found, within, f"a pod of {user}")
    return pod


async def node_of(api: KubeApi, hub: Hub, user: str) -> Raw:
    """The node of the user's running session."""
    pod = await pod_of(api, hub, user)
    return await api.get(core("nodes", name=pod["spec"]["nodeName"]))


async def machines(api: KubeApi) -> Counter[str]:
    """How many machines of each type the chart's GPU NodePool has."""
    claims = await api.get(group(KARPENTER, "nodeclaims"), labelSelector=f"karpenter.sh/nodepool={GPU_POOL}")
    return Counter(claim["metadata"]["labels"].get(INSTANCE_TYPE, "launching") for claim in claims["items"])


async def no_machines(api: KubeApi) -> None:
    """Give back what earlier tests left of the GPU NodePool, so that the next purchase can be seen."""
    claims = group(KARPENTER, "nodeclaims")
    await api.delete(claims, labelSelector=f"karpenter.sh/nodepool={GPU_POOL}")

    async def gone() -> bool:
        return not await machines(api)

    await eventually(gone, 60, "machines of earlier tests are given back")


def usd_per_hour(bought: Mapping[str, int]) -> float:
    """What these machines cost on demand, in dollars an hour."""
    prices = {kind.name: kind.usd_per_hour or 0.0 for kind in load_catalogue()}
    return sum(prices[name] * count for name, count in bought.items())


async def two_at_once(api: KubeApi, hub: Hub, options: Mapping[str, Any] | None) -> Counter[str]:
    """The machines that are bought when two users start at the same moment and none is there."""
    await no_machines(api)
    await asyncio.gather(*(hub.start_server(user, options=options) for user in ("ann", "ben")))
    bought = await machines(api)
    await asyncio.gather(*(hub.stop_server(user) for user in ("ann", "ben")))
    return bought


@dataclass(frozen=True)
class Fallback:
    """How a spot-first start ended: seconds from the request to the answering notebook, and on what capacity."""

    seconds: float
    capacity_type: str


async def spot_without_capacity(lab: Lab, api: KubeApi, hub: Hub) -> Fallback:
    """Start the spot-first profile while no spot capacity is to be had anywhere."""
    await no_machines(api)
    lab.faults.ice(capacity_type="spot")
    started = time.monotonic()
    try:
        await hub.start_server("sam", options={"profile": "spot-l4"})
    finally:
        lab.faults.clear()
    took = time.monotonic() - started
    node = await node_of(api, hub, "sam")
    await hub.stop_server("sam")
    return Fallback(took, node["metadata"]["labels"][CAPACITY_TYPE])
