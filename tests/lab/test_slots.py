"""Exact slots on real Karpenter: N sessions fit one node of every multi-GPU type, and the next one buys a second."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from gpu_launcher.cluster.api import KubeApi
from gpu_launcher.cluster.paths import core, group
from gpu_launcher.domain.instance_type import InstanceType
from gpu_launcher.lab.handle import Lab, running_lab
from gpu_launcher.lab.settings import LabSettings
from gpu_launcher.settings.catalogue import load_catalogue
from provisioning import INSTANCE_TYPE, Pool, eventually
from sessions import document, placed, session_pod

pytestmark = [pytest.mark.lab, pytest.mark.machines]

# The lab sells only what has a price; a type without one (p5e.48xlarge in us-east-1) cannot be bought there.
TYPES = [kind for kind in load_catalogue() if kind.gpus > 1 and kind.usd_per_hour is not None]
# What the DaemonSets of the default configuration may ask for; the test's DaemonSet takes nearly all of it.
DAEMONSET = {"cpu": "240m", "memory": "500Mi", "ephemeral-storage": "1000Mi"}


def profile_id(kind: InstanceType) -> str:
    return kind.name.replace(".", "-")


def profile_for(kind: InstanceType, nodepool: str) -> dict[str, Any]:
    assert kind.gpu is not None
    return {
        "id": profile_id(kind),
        "display_name": kind.name,
        "gpu": {"name": kind.gpu.name, "count": 1, "host_gpus": [kind.gpus]},
        "instance_types": [kind.name],
        "node_selector": {"karpenter.sh/nodepool": nodepool, "kubernetes.io/arch": kind.arch},
    }


async def run_daemonset(api: KubeApi, nodepool: str) -> None:
    labels = {"app": f"{nodepool}-daemon"}
    template = {
        "metadata": {"labels": labels},
        "spec": {
            "nodeSelector": {"karpenter.sh/nodepool": nodepool},
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "main", "image": "lab/pause", "resources": {"requests": DAEMONSET}}],
        },
    }
    await api.post(
        group("apps/v1", "daemonsets", namespace="default"),
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": f"{nodepool}-daemon"},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
    )


async def start(api: KubeApi, settings: Mapping[str, Any], kind: InstanceType, number: int) -> None:
    pod = await session_pod(settings, f"{profile_id(kind)}-{number}", profile_id(kind))
    await api.post(core("pods", namespace="default"), pod)


async def all_placed(api: KubeApi, settings: Mapping[str, Any], sessions: int, within: float) -> dict[str, list[str]]:
    async def complete() -> dict[str, list[str]] | None:
        nodes = await placed(api, settings)
        return nodes if sum(map(len, nodes.values())) == sessions else None

    nodes: dict[str, list[str]] = await eventually(complete, within, f"{sessions} sessions have a node")
    return nodes


def by_profile(nodes: Mapping[str, list[str]]) -> dict[str, Counter[str]]:
    """How many sessions of each profile are on each node."""
    counted: dict[str, Counter[str]] = {}
    for node, sessions in nodes.items():
        for session in sessions:
            counted.setdefault(session.rpartition("-")[0], Counter())[node] += 1
    return counted


async def check_slots(lab: Lab, name: str) -> None:
    async with lab.api() as api:
        pool = Pool(api, name)
        await pool.create([kind.name for kind in TYPES], ["on-demand"], "1s")
        await run_daemonset(api, name)
        settings = document([profile_for(kind, name) for kind in TYPES])
        sessions = [(kind, number) for kind in TYPES for number in range(kind.gpus)]
        await asyncio.gather(*(start(api, settings, kind, number) for kind, number in sessions))
        first = by_profile(await all_placed(api, settings, len(sessions), 120))
        assert {profile: sorted(nodes.values()) for profile, nodes in first.items()} == {
            profile_id(kind): [kind.gpus] for kind in TYPES
        }

        await asyncio.gather(*(start(api, settings, kind, kind.gpus) for kind in TYPES))
        second = by_profile(await all_placed(api, settings, len(sessions) + len(TYPES), 120))
        assert {profile: sorted(nodes.values()) for profile, nodes in second.items()} == {
            profile_id(kind): [1, kind.gpus] for kind in TYPES
        }
        bought = Counter(node["metadata"]["labels"][INSTANCE_TYPE] for node in await pool.nodes())
        assert bought == {kind.name: 2 for kind in TYPES}

        # 180 pods and 50 nodes are a burden for the tests that come after.
        await api.delete(group("apps/v1", "daemonsets", namespace="default", name=f"{name}-daemon"))
        selector = ",".join(sorted({profile_id(kind) for kind in TYPES}))
        await api.delete(core("pods", namespace="default"), labelSelector=f"gpu-launcher/profile in ({selector})")
        await pool.remove()


async def test_n_sessions_fit_every_multi_gpu_type_and_the_next_buys_a_second(
    lab: Lab,
) -> None:
    await check_slots(lab, "slots")


@pytest.mark.parametrize("skew", [-0.02, 0.02])
async def test_n_sessions_fit_where_nodes_differ_from_the_catalogue(skew: float) -> None:
    async with running_lab(LabSettings.fast(allocatable_skew=skew)) as lab:
        await check_slots(lab, "slots")
