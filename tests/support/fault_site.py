"""A hub and NodePools of one's own, whose starts are made to fail: what tests of faults run on."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import jupyterhub

from gpu_launcher.cluster.api import KubeApi, Raw
from gpu_launcher.cluster.errors import Conflict, NotFound
from gpu_launcher.cluster.paths import core, group
from gpu_launcher.lab.handle import Lab
from gpu_launcher.lab.hub import start_hub
from gpu_launcher.lab.install import NAMESPACE, RELEASE
from launcher import Launcher, StartStream
from provisioning import KARPENTER, KWOK, Pool, eventually
from sightings import Sighting, Sightings, watching
from starts import launcher_config

RBAC = "rbac.authorization.k8s.io/v1"
MAJOR = jupyterhub.version_info[0]
ON_DEMAND = ("on-demand",)
ALL = ("on-demand", "spot")

# Names of the chart's roles, as it renders them for the release that the tests install.
_ROLE = f"{NAMESPACE}-{RELEASE}-hub"

_SITE = """
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
c.Spawner.consecutive_failure_limit = 5
# Only an address that answers: what is tested comes before the notebook.
c.KubeSpawner.extra_annotations = {"gpu-launcher-lab/server": "stub"}
c.KubeSpawner.pvc_name_template = "claim-{username}"
_HOME = (c.KubeSpawner.volumes, c.KubeSpawner.volume_mounts)
c.KubeSpawner.storage_pvc_ensure = False
c.KubeSpawner.volumes = c.KubeSpawner.volume_mounts = []


def _of_the_site(spawner):
    if spawner.user.name.startswith("home-"):
        spawner.storage_pvc_ensure = True
        spawner.volumes, spawner.volume_mounts = _HOME
    if spawner.user.name.startswith("silent-"):
        spawner.extra_annotations = {}
        spawner.cmd = ["sleep", "600"]
    if spawner.user.name.startswith("defect-"):
        raise RuntimeError("a hook of the site is broken")


c.Spawner.pre_spawn_hook = _of_the_site
"""


def profile(name: str, nodepool: str, gpu: str = "t4", host_gpus: int = 1, **more: Any) -> dict[str, Any]:
    """A profile that only this NodePool serves, with an image of its own."""
    image = {"id": "own", "display_name": "Own", "reference": f"example.org/{name}:1", "size": "8G"}
    return {
        "id": name,
        "display_name": f"Profile {name}",
        "gpu": {"name": gpu, "host_gpus": [host_gpus]},
        "images": [image],
        "node_selector": {"karpenter.sh/nodepool": nodepool},
        **more,
    }


# On the lab's own node: nothing has to be bought for it, so its pace is the hub's.
CPU_PROFILE = {
    "id": "cpu",
    "display_name": "CPU",
    "default": True,
    "size": {"cpu": "10m", "memory": "64Mi"},
    "node_selector": {"gpu-launcher-lab/system": "true"},
}


@dataclass
class Site:
    """A hub with its NodePools, and all that is seen of them while a test lasts."""

    lab: Lab
    api: KubeApi
    launcher: Launcher
    pools: Mapping[str, Pool]
    sightings: Sightings

    @property
    def namespace(self) -> str:
        """The hub's namespace."""
        return self.launcher.hub.namespace

    async def pods_of(self, stream: StartStream) -> list[Raw]:
        """The pods of a start's server that the API server has, those on their way out too."""
        pods = await self.api.get(core("pods", namespace=self.namespace), labelSelector="component=singleuser-server")
        return [pod for pod in pods["items"] if _server_of(pod) == (stream.user, stream.server)]

    async def no_pod_left(self, stream: StartStream, within: float = 15) -> None:
        """Wait until the pods of a start's server are gone."""

        async def none() -> bool:
            return not await self.pods_of(stream)

        await eventually(none, within, f"no pod of {stream.user} is left behind")

    async def pod_seen(self, stream: StartStream, within: float = 30) -> Sighting:
        """Wait until the start's pod was seen, and return the first sighting."""
        return await self.sightings.until("pods", about(stream), within, f"a pod of {stream.user}")

    async def node_pool(self, name: str, change: Raw, condition: str = "") -> None:
        """Change the spec of a NodePool; with a condition's name, wait until that is False."""
        path = group(KARPENTER, "nodepools", name=self.pools[name].name)
        await self.api.patch(path, {"spec": change})
        if condition:
            await self._until_false(path, condition)

    async def break_node_class(self, name: str) -> None:
        """Make a pool's node class say that it is not ready, as a missing subnet or role makes an EC2NodeClass."""
        pool = self.pools[name].name
        broken = {
            "type": "Ready",
            "status": "False",
            "reason": "SubnetsNotFound",
            "message": "SubnetSelector did not match any Subnets",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        path = group(KWOK, "kwoknodeclasses", name=pool)
        await self.api.patch(f"{path}/status", {"status": {"conditions": [broken]}})
        await self._until_false(group(KARPENTER, "nodepools", name=pool), "NodeClassReady")

    async def _until_false(self, path: str, condition: str) -> None:
        async def no_longer() -> bool:
            found = (await self.api.get(path)).get("status", {}).get("conditions", ())
            return any(item["type"] == condition and item["status"] == "False" for item in found)

        await eventually(no_longer, 20, f"{path} has {condition}=False")

    async def lose_machine(self, node: str) -> None:
        """Take a node out of the cluster as a cloud does: at once, without drain and finalizers."""
        path = core("nodes", name=node)
        await self.api.delete(path)
        with contextlib.suppress(NotFound):
            await self.api.patch(path, {"metadata": {"finalizers": None}})


def about(stream: StartStream) -> Callable[[Sighting], bool]:
    """A predicate: sightings of the pods of this start."""

    def holds(one: Sighting) -> bool:
        return _server_of(one.raw) == (stream.user, stream.server) and one.at >= stream.asked_at

    return holds


@contextlib.asynccontextmanager
async def fault_site(
    lab: Lab,
    api: KubeApi,
    name: str,
    pools: Mapping[str, tuple[Sequence[str], Sequence[str]]],
    profiles: Mapping[str, Mapping[str, Any]],
    starts: Mapping[str, Any],
    *,
    granted: bool = True,
    config: str = "",
) -> AsyncIterator[Site]:
    """A site for the length of a block; afterwards nothing of it is left, and no fault is switched on.

    ``pools`` are instance types and capacity types by name; ``profiles`` hold, by id, the pool and further fields;
    ``granted`` says whether the hub has the permissions that the chart renders for it; ``config`` is further text for
    jupyterhub_config.py.
    """
    namespace = f"{name}{MAJOR}-{uuid4().hex[:4]}"
    made = {key: Pool(api, f"{namespace}-{key}") for key in pools}
    document = {
        "version": 1,
        "profiles": [
            CPU_PROFILE,
            *(
                profile(key, made[fields["pool"]].name, **{k: v for k, v in fields.items() if k != "pool"})
                for key, fields in profiles.items()
            ),
        ],
        "cluster": {"toleration_keys": ["nvidia.com/gpu", "test"]},
        "starts": dict(starts),
    }
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(_remove, lab, api, made)
        async with asyncio.TaskGroup() as tasks:
            text = launcher_config(document) + _SITE + config
            hub = tasks.create_task(start_hub(lab, namespace, text, python=sys.executable))
            for key, (types, capacity_types) in pools.items():
                tasks.create_task(made[key].create(types, capacity_types, "2s"))
            if granted:
                tasks.create_task(grant(api, namespace))
        # Names are never used twice, so nobody waits for the end of it.
        stack.push_async_callback(api.delete, core("namespaces", name=namespace))
        stack.push_async_callback(revoke, api, namespace)
        sightings = await stack.enter_async_context(watching(api, namespace))
        launcher = await stack.enter_async_context(Launcher(hub.result()))
        yield Site(lab, api, launcher, made, sightings)


async def _remove(lab: Lab, api: KubeApi, pools: Mapping[str, Pool]) -> None:
    lab.faults.clear()
    await asyncio.gather(*(pool.remove() for pool in pools.values()))


def _bindings(namespace: str) -> list[tuple[str, Raw]]:
    hub = [{"kind": "ServiceAccount", "name": "hub", "namespace": namespace}]
    bindings = []
    for kind, path, role in (
        ("ClusterRole", group(RBAC, "clusterrolebindings"), _ROLE),
        ("Role", group(RBAC, "rolebindings", namespace="default"), f"{_ROLE}-events"),
    ):
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}
        bindings.append((path, {"metadata": {"name": f"{namespace}-hub"}, "roleRef": reference, "subjects": hub}))
    return bindings


async def grant(api: KubeApi, namespace: str) -> None:
    """Give a namespace's hub the chart's roles: those that its own release binds to the hub beside it."""
    for path, binding in _bindings(namespace):
        with contextlib.suppress(Conflict):
            await api.post(path, binding)


async def revoke(api: KubeApi, namespace: str) -> None:
    """Take the chart's roles from a namespace's hub."""
    for path, binding in _bindings(namespace):
        with contextlib.suppress(NotFound):
            await api.delete(f"{path}/{binding['metadata']['name']}")


def _server_of(pod: Raw) -> tuple[str, str]:
    said = pod["metadata"].get("annotations") or {}
    return said.get("hub.jupyter.org/username", ""), said.get("hub.jupyter.org/servername", "")
