"""Test vocabulary for Karpenter: a NodePool of one's own, pods that only it serves, and what to expect of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpu_launcher.cluster.api import KubeApi, Raw
from gpu_launcher.cluster.errors import NotFound
from gpu_launcher.cluster.paths import core, group
from gpu_launcher.domain.quantity import MIB, format_bytes, format_cpu
from gpu_launcher.domain.resources import Resources

KARPENTER = "karpenter.sh/v1"
KWOK = "karpenter.kwok.sh/v1alpha1"
CAPACITY_TYPE = "karpenter.sh/capacity-type"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
GPU = "nvidia.com/gpu"
SMALL = Resources(cpu_m=100, memory=64 * MIB, gpus=1)


@dataclass
class Pool:
    """One NodePool whose taint only its own pods tolerate, so that tests do not take each other's nodes."""

    api: KubeApi
    name: str
    pods: int = 0

    async def create(self, instance_types: Sequence[str], capacity_types: Sequence[str], boot: str) -> None:
        await self.api.post(
            group(KWOK, "kwoknodeclasses"),
            {
                "apiVersion": KWOK,
                "kind": "KWOKNodeClass",
                "metadata": {"name": self.name},
                "spec": {"nodeRegistrationDelay": boot},
            },
        )
        await self.api.post(group(KARPENTER, "nodepools"), self._nodepool(instance_types, capacity_types))
        # A pod that comes before its NodePool is ready waits for Karpenter's next look, 10 s later.
        await eventually(self._ready, 10, f"NodePool {self.name} is ready")

    async def _ready(self) -> bool:
        pool = await self.api.get(group(KARPENTER, "nodepools", name=self.name))
        conditions = pool.get("status", {}).get("conditions", ())
        return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)

    def _nodepool(self, instance_types: Sequence[str], capacity_types: Sequence[str]) -> Raw:
        return {
            "apiVersion": KARPENTER,
            "kind": "NodePool",
            "metadata": {"name": self.name},
            "spec": {
                "disruption": {"consolidationPolicy": "WhenEmpty", "consolidateAfter": "Never"},
                "template": {
                    "spec": {
                        "expireAfter": "Never",
                        "nodeClassRef": {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": self.name},
                        "taints": [{"key": "test", "value": self.name, "effect": "NoSchedule"}],
                        "requirements": [
                            {"key": INSTANCE_TYPE, "operator": "In", "values": list(instance_types)},
                            {"key": CAPACITY_TYPE, "operator": "In", "values": list(capacity_types)},
                        ],
                    }
                },
            },
        }

    async def pod(
        self,
        selector: Mapping[str, str] | None = None,
        resources: Resources = SMALL,
    ) -> str:
        """Create a pod for this pool that KWOK runs, and return its name."""
        self.pods += 1
        name = f"{self.name}-{self.pods}"
        container = {
            "name": "main",
            "image": "lab/pause",
            "resources": {"limits": limits(resources)},
        }
        spec = {
            "nodeSelector": {"karpenter.sh/nodepool": self.name} | dict(selector or {}),
            "tolerations": [{"key": "test", "value": self.name}],
            "containers": [container],
            "terminationGracePeriodSeconds": 0,
        }
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        await self.api.post(core("pods", namespace="default"), body)
        return name

    async def claims(self) -> list[Raw]:
        selector = f"karpenter.sh/nodepool={self.name}"
        return list((await self.api.get(group(KARPENTER, "nodeclaims"), labelSelector=selector))["items"])

    async def nodes(self) -> list[Raw]:
        return list((await self.api.get(core("nodes"), labelSelector=f"karpenter.sh/nodepool={self.name}"))["items"])

    async def running(self, pod: str, within: float = 30) -> Raw:
        """Wait for a pod to run and return its Node."""

        async def bound() -> str | None:
            raw = await self.api.get(core("pods", namespace="default", name=pod))
            return str(raw["spec"]["nodeName"]) if raw["status"].get("phase") == "Running" else None

        name = await eventually(bound, within, f"pod {pod} runs")
        return await self.api.get(core("nodes", name=name))

    async def condition(self, kind: str, reason: str | None = None, within: float = 20) -> Raw:
        """Wait for a condition of the only NodeClaim: true, or unknown for *reason*; return the claim."""

        async def holds() -> Raw | None:
            for claim in await self.claims():
                for condition in claim.get("status", {}).get("conditions", ()):
                    wanted = condition["status"] == "True" if reason is None else condition["reason"] == reason
                    if condition["type"] == kind and wanted:
                        return claim
            return None

        found: Raw = await eventually(holds, within, f"NodeClaim {kind} {reason or 'True'}")
        return found

    async def refusal(self, within: float = 20) -> str:
        """Wait for Karpenter's event about missing capacity for this pool and return its text."""

        async def told() -> str | None:
            events = await self.api.get(core("events", namespace="default"))
            for event in events["items"]:
                about = event["involvedObject"].get("name", "")
                if event["reason"] == "InsufficientCapacityError" and about.startswith(f"{self.name}-"):
                    return str(event["message"])
            return None

        text: str = await eventually(told, within, "InsufficientCapacityError event")
        return text

    async def remove(self) -> None:
        """Take everything away again, pods first; names are never used twice, so nobody waits for the end of it."""
        names = [f"{self.name}-{number}" for number in range(1, self.pods + 1)]
        paths = [core("pods", namespace="default", name=name) for name in names]
        paths.append(group(KARPENTER, "nodepools", name=self.name))
        paths += [group(KARPENTER, "nodeclaims", name=claim["metadata"]["name"]) for claim in await self.claims()]
        paths.append(group(KWOK, "kwoknodeclasses", name=self.name))
        for path in paths:
            with contextlib.suppress(NotFound):
                await self.api.delete(path)


def limits(resources: Resources) -> dict[str, str]:
    """Return a container's limits, which are its requests too."""
    result = {"cpu": format_cpu(resources.cpu_m), "memory": format_bytes(resources.memory)}
    if resources.ephemeral:
        result["ephemeral-storage"] = format_bytes(resources.ephemeral)
    if resources.gpus:
        result[GPU] = str(resources.gpus)
    return result


async def eventually(probe: Callable[[], Awaitable[Any]], within: float, what: str) -> Any:
    """Return the first true answer of *probe*; fail with *what* after *within* seconds."""
    loop = asyncio.get_running_loop()
    end = (asked := loop.time()) + within
    while not (answer := await probe()):
        now = loop.time()
        if now > end:
            raise AssertionError(f"not within {within:g} s: {what}")
        # A look at hundreds of pods costs a good part of a core: looking must not be the load that is waited for.
        await asyncio.sleep(max(0.1, 3 * (now - asked)))
        asked = loop.time()
    return answer
