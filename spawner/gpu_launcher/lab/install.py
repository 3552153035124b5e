"""The product on a lab: installed from its own chart by Helm, as on a cluster."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpu_launcher.cluster.paths import group
from gpu_launcher.lab.handle import Lab
from gpu_launcher.lab.paths import LabError, write_json
from gpu_launcher.lab.settings import LabSettings

RELEASE = "gpu-launcher"
NAMESPACE = "jupyter"

_PACKAGE = Path(__file__).resolve().parent
# Karpenter looks at a new NodePool at once; more than this, and it does not look at all.
_READY_S = 20.0


def find_chart() -> Path:
    """The chart: ``$GPU_LAUNCHER_CHART``, else the repository's, else the one in the wheel."""
    named = os.environ.get("GPU_LAUNCHER_CHART")
    candidates = [Path(named)] if named else [_PACKAGE.parents[2] / "helm" / "gpu-launcher", _PACKAGE / "chart"]
    for candidate in candidates:
        if (candidate / "Chart.yaml").is_file():
            return candidate
    raise LabError(f"no chart in {' or '.join(map(str, candidates))}; set GPU_LAUNCHER_CHART to its directory")


async def install_product(lab: Lab, namespace: str = NAMESPACE, values: Mapping[str, Any] | None = None) -> None:
    """Install or upgrade the chart in ``namespace`` and wait until Karpenter accepts its NodePools.

    ``values`` go over those of ``lab_values``, mapping by mapping. Raises ``LabError`` with Helm's own words.
    """
    file = lab.paths.helm / f"{namespace}-values.json"
    write_json(file, merged(lab_values(lab.settings), values or {}))
    where = ("--namespace", namespace, "--create-namespace")
    await lab.helm("upgrade", "--install", RELEASE, str(find_chart()), *where, "--values", str(file), "--wait")
    # A session that comes before its NodePool is ready waits for Karpenter's next look, 10 s later.
    try:
        await asyncio.wait_for(_node_pools_are_ready(lab), _READY_S)
    except TimeoutError:
        raise LabError(
            f"the NodePools are not ready after {_READY_S:.0f} s: see {lab.paths.log('karpenter')}"
        ) from None


async def uninstall_product(lab: Lab, namespace: str = NAMESPACE) -> None:
    """Uninstall the chart; sessions and their nodes stay, as on a cluster."""
    await lab.helm("uninstall", RELEASE, "--namespace", namespace, "--wait")


def lab_values(settings: LabSettings) -> dict[str, Any]:
    """The chart's values for a lab: NodePools of KWOK machines that boot as slowly as ``settings`` say."""
    # The node class counts in whole seconds.
    boot = math.ceil(settings.boot_s)
    return {
        "nodePools": {
            "create": True,
            "gpu": {"limits": {"nvidia.com/gpu": 64}},
            "cpu": {"limits": {"cpu": 256, "memory": "1Ti"}},
        },
        "nodeClass": {"create": True, "kind": "KWOKNodeClass", "kwok": {"nodeRegistrationDelay": f"{boot}s"}},
        # Every other node of a lab comes and goes.
        "controller": {"nodeSelector": {"gpu-launcher-lab/system": "true"}},
        "settings": {"version": 1, "cluster": {"disk": f"{settings.disk_gib}Gi"}},
    }


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` put over it, as Helm merges values: mappings by key, all else as a whole."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            result[key] = merged(below, value)
        else:
            result[key] = value
    return result


async def _node_pools_are_ready(lab: Lab) -> None:
    async with lab.api() as api:
        while True:
            pools = (await api.get(group("karpenter.sh/v1", "nodepools")))["items"]
            if all(_is_ready(pool) for pool in pools):
                return
            await asyncio.sleep(0.1)


def _is_ready(pool: Mapping[str, Any]) -> bool:
    conditions = (pool.get("status") or {}).get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)
