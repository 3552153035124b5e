"""Sessions that come and go on 8-GPU hosts, with and without packing, on the stock scheduler."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpu_launcher.cluster.api import KubeApi
from gpu_launcher.cluster.paths import core
from provisioning import Pool, eventually
from sessions import NAMESPACE, document, placed, session_pod

SLOTS = 8
MOST_SESSIONS = 40


@dataclass
class Churn:
    """What one run showed. Hours are steps of the run: each arrival or departure counts as one."""

    host_hours: int = 0
    ideal_host_hours: int = 0
    strays: list[str] = field(default_factory=list)
    """Arrivals that did not go to the fullest host with room."""


def settings_for(nodepool: str) -> dict[str, Any]:
    """One profile that takes an eighth of a g5.48xlarge."""
    profile = {
        "id": "eighth",
        "display_name": "A10G",
        "gpu": {"name": "a10g", "count": 1, "host_gpus": [SLOTS]},
        "node_selector": {"karpenter.sh/nodepool": nodepool},
    }
    return document([profile])


async def churn(api: KubeApi, nodepool: str, *, packed: bool, seed: int, steps: int) -> Churn:
    """Run ``steps`` random arrivals and departures, the same for the same seed, and say what became of them."""
    pool = Pool(api, nodepool)
    await pool.create(["g5.48xlarge"], ["on-demand"], "1s")
    settings = settings_for(nodepool)
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    running: list[str] = []
    seen = Churn()
    for step in range(steps):
        # A morning, an evening, a night: hosts fill, most sessions leave, some come and go.
        rising = 0.95 if step < 0.3 * steps else 0.1 if step < 0.55 * steps else 0.5
        if not running or (len(running) < MOST_SESSIONS and chance.random() < rising):
            name = f"{nodepool}-s{step}"
            await _arrive(api, settings, name, packed, seen)
            running.append(name)
        else:
            await _leave(api, settings, running.pop(chance.randrange(len(running))))
        seen.host_hours += len(await placed(api, settings))
        seen.ideal_host_hours += math.ceil(len(running) / SLOTS)
    await api.delete(core("pods", namespace=NAMESPACE), labelSelector="gpu-launcher/profile=eighth")
    await pool.remove()
    return seen


async def _arrive(api: KubeApi, settings: Mapping[str, Any], name: str, packed: bool, seen: Churn) -> None:
    before = {node: len(sessions) for node, sessions in (await placed(api, settings)).items()}
    await api.post(core("pods", namespace=NAMESPACE), await session_pod(settings, name, "eighth", packed=packed))

    async def bound() -> str | None:
        pod = await api.get(core("pods", namespace=NAMESPACE, name=name))
        node: str | None = pod["spec"].get("nodeName")
        return node

    node = await eventually(bound, 60, f"session {name} has a node")
    fullest = max((count for count in before.values() if count < SLOTS), default=0)
    if before.get(node, 0) != fullest:
        seen.strays.append(f"{name} went to a host with {before.get(node, 0)}, the fullest with room had {fullest}")


async def _leave(api: KubeApi, settings: Mapping[str, Any], name: str) -> None:
    await api.delete(core("pods", namespace=NAMESPACE, name=name))

    async def gone() -> bool:
        return not any(name in sessions for sessions in (await placed(api, settings)).values())

    await eventually(gone, 30, f"session {name} is gone")
