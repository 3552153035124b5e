"""Test vocabulary for the stand-in kubelet: nodes and namespaces of one's own, pods, what to expect of them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import uuid4

from gpu_launcher.cluster.api import KubeApi, Raw
from gpu_launcher.cluster.errors import KubeError, NotFound
from gpu_launcher.cluster.paths import core
from provisioning import eventually

# The launcher's own pods run as real processes, whatever their image.
REAL = {"app.kubernetes.io/name": "gpu-launcher"}


@contextlib.asynccontextmanager
async def namespace(api: KubeApi) -> AsyncIterator[str]:
    """A namespace in which pods can be created; it goes away by itself afterwards."""
    name = f"kubelet-{uuid4().hex[:6]}"
    await api.post(core("namespaces"), {"metadata": {"name": name}})

    async def has_account() -> bool:
        with contextlib.suppress(NotFound):
            await api.get(core("serviceaccounts", namespace=name, name="default"))
            return True
        return False

    await eventually(has_account, 20, f"service account in {name}")
    try:
        yield name
    finally:
        await api.delete(core("namespaces", name=name))


@contextlib.asynccontextmanager
async def node(api: KubeApi, labels: Mapping[str, str] | None = None, disk: str = "200Gi") -> AsyncIterator[str]:
    """A Ready node that nobody else uses."""
    name = f"own-{uuid4().hex[:6]}"
    resources = {"cpu": "8", "memory": "32Gi", "ephemeral-storage": disk, "pods": "110"}
    await api.post(
        core("nodes"),
        {
            "metadata": {
                "name": name,
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", **(labels or {})},
            },
            "spec": {"taints": [{"key": "own", "value": name, "effect": "NoSchedule"}]},
            "status": {"capacity": resources, "allocatable": resources},
        },
    )
    path = core("nodes", name=name)

    async def ready() -> bool:
        found = (await api.get(path))["status"].get("conditions") or ()
        return any(item["type"] == "Ready" and item["status"] == "True" for item in found)

    await eventually(ready, 20, f"node {name} is Ready")
    try:
        yield name
    finally:
        with contextlib.suppress(KubeError):
            await api.delete(path)


def pod(name: str, on: str, script: str, **fields: Any) -> Raw:
    """A real pod, bound to a node, that runs a shell script; ``fields`` go into its container, ``spec`` to the pod."""
    spec = fields.pop("spec", {})
    labels = fields.pop("labels", REAL)
    container = {"name": "main", "image": "quay.io/lab/tool:1", "command": ["/bin/sh", "-c", script], **fields}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {"nodeName": on, "restartPolicy": "Never", "containers": [container], **spec},
    }


class Pods:
    """The pods of a namespace, watched by asking."""

    def __init__(self, api: KubeApi, namespace: str) -> None:
        self.api = api
        self.namespace = namespace

    async def create(self, body: Raw) -> Raw:
        return await self.api.post(core("pods", namespace=self.namespace), body)

    async def get(self, name: str) -> Raw:
        return await self.api.get(core("pods", namespace=self.namespace, name=name))

    async def phase(self, name: str, wanted: str, within: float = 30) -> Raw:
        async def reached() -> Raw | None:
            found = await self.get(name)
            return found if found["status"].get("phase") == wanted else None

        result: Raw = await eventually(reached, within, f"pod {name} is {wanted}")
        return result

    async def waiting(self, name: str, reason: str, within: float = 30) -> Raw:
        """The status of the only container once it waits for ``reason``."""

        async def reached() -> Raw | None:
            for status in (await self.get(name))["status"].get("containerStatuses") or ():
                if status["state"].get("waiting", {}).get("reason") == reason:
                    return dict(status)
            return None

        result: Raw = await eventually(reached, within, f"pod {name} waits: {reason}")
        return result

    async def delete(self, name: str, within: float = 20, **options: Any) -> None:
        await self.api.delete(core("pods", namespace=self.namespace, name=name), options or None)

        async def gone() -> bool:
            with contextlib.suppress(NotFound):
                await self.get(name)
                return False
            return True

        await eventually(gone, within, f"pod {name} is gone")

    async def events(self, name: str) -> list[str]:
        """Reasons of a pod's events so far."""
        found = await self.api.get(
            core("events", namespace=self.namespace), fieldSelector=f"involvedObject.name={name}"
        )
        return [item["reason"] for item in found["items"]]

    async def told(self, name: str, *reasons: str) -> None:
        """Wait until a pod has events with all these reasons."""

        async def all_there() -> bool:
            return set(reasons) <= set(await self.events(name))

        await eventually(all_there, 20, f"pod {name} has events {', '.join(reasons)}")
