"""Spawners without a hub and without a cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from kubernetes_asyncio.client import ApiClient

from gpu_launcher.hub.spawner import GpuSpawner

DOCUMENT: dict[str, Any] = {
    "version": 1,
    "profiles": [
        {"id": "cpu", "display_name": "CPU", "default": True, "size": {"cpu": "2", "memory": "4Gi"}},
        {
            "id": "a10g",
            "display_name": "A10G",
            "gpu": {"name": "a10g", "count": 1},
            "spot_choice": True,
            "images": [
                {"id": "pytorch", "display_name": "PyTorch", "reference": "quay.io/site/pytorch:2.9", "size": "7.8G"},
                {"id": "jax", "display_name": "JAX", "reference": "quay.io/site/jax:0.7"},
            ],
        },
        {
            "id": "t4x",
            "display_name": "T4, one to four",
            "gpu": {"name": "t4", "count": 1, "max_count": 4},
            "unlisted_image_pattern": "quay\\.io/site/[a-z]+:[0-9.]+",
        },
        {
            "id": "a100",
            "display_name": "A100",
            "gpu": {"name": "a100", "count": 1, "memory": ">=75Gi"},
            "groups": ["research"],
            "limits": {"gpus_per_user": 1},
        },
        {"id": "never", "display_name": "Never", "gpu": {"name": "a100", "count": 1, "memory": ">=500Gi"}},
    ],
}


@dataclass
class Group:
    name: str


@dataclass
class FakeUser:
    name: str = "ada"
    id: int = 1
    url: str = "/user/ada/"
    groups: list[Group] = field(default_factory=list)
    db: Any = field(default_factory=lambda: SimpleNamespace(commit=lambda: None))


class FakeReflector:
    def __init__(self) -> None:
        self.pods: dict[str, dict[str, Any]] = {}


Build = Callable[..., GpuSpawner]


async def manifest(spawner: GpuSpawner, options: Any = None) -> dict[str, Any]:
    """Return the pod that the options become, as the API server would get it."""
    await spawner._run_apply_user_options(options)
    pod = await spawner.get_pod_manifest()
    if spawner.modify_pod_hook:
        pod = spawner.modify_pod_hook(spawner, pod)
    client = ApiClient.__new__(ApiClient)
    sanitized: dict[str, Any] = client.sanitize_for_serialization(pod)
    return sanitized
