"""One node as its kubelet sees it: images, disk, volumes in use and the device plugin."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from gpu_launcher.cluster.api import KubeApi
from gpu_launcher.cluster.errors import Conflict, KubeError, NotFound
from gpu_launcher.cluster.paths import core, group
from gpu_launcher.domain.quantity import parse_bytes
from gpu_launcher.lab.bootstrap import SYSTEM_LABEL
from gpu_launcher.lab.images import ImageStore, Link, image_bytes, parse_image
from gpu_launcher.lab.kubelet.events import Events, timestamp
from gpu_launcher.lab.kubelet.injected import Injected
from gpu_launcher.lab.settings import LabSettings
from gpu_launcher.lab.volumes import DRIVER, FORCED_DETACH_S

log = logging.getLogger(__name__)

GPU = "nvidia.com/gpu"
GPU_COUNT_LABEL = "karpenter.k8s.aws/instance-gpu-count"

# A kubelet's --eviction-pressure-transition-period, whose stock value of 5 min only costs a lab patience.
_PRESSURE_S = 30.0
# How often a device plugin that may not advertise looks whether it may by now.
_PLUGIN_RETRY_S = 0.5
# Its images arrive in a moment.
_OWN_NODE_FASTER = 1000
_GIB = 1024**3


# kube-controller-manager attaches disks to nodes that carry this mark, which every kubelet sets on its own node.
MANAGED = {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}


class DiskFull(Exception):
    """The image does not fit on the node's disk; the message is the kubelet's eviction message."""


@dataclass(frozen=True, slots=True)
class Pull:
    """A finished look for an image: seconds it took, None when the image was there already."""

    bytes: int
    seconds: float | None


class Node:
    """State of one node."""

    def __init__(self, api: KubeApi, events: Events, settings: LabSettings, faults: Injected, raw: dict[str, Any]):
        self._api = api
        self._events = events
        self._settings = settings
        self._faults = faults
        self._images = ImageStore()
        # The lab's own node would have its images from before; nobody should wait for the lab's hub.
        own = SYSTEM_LABEL in (raw["metadata"].get("labels") or {})
        self._link = Link(settings.pull_rate * (_OWN_NODE_FASTER if own else 1))
        self._pulls: dict[str, asyncio.Task[None]] = {}
        self._arriving = 0
        self._in_use: Counter[str] = Counter()
        self._pressure = False
        self._dirty = asyncio.Event()
        self._ready = asyncio.Event()
        self.raw: dict[str, Any] = {}
        self.update(raw)
        self.images_wanted: Callable[[], Iterable[str]] = tuple
        # What its pods take of the disk besides images, in bytes, as last weighed.
        self.pods_bytes = 0

    def update(self, raw: dict[str, Any]) -> None:
        """Take the newest object from the API server."""
        self.raw = raw
        if _is_ready(raw):
            self._ready.set()

    @property
    def name(self) -> str:
        return str(self.raw["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.raw["metadata"]["uid"])

    @property
    def ip(self) -> str:
        """The address the pods know their host by; loopback where the node has none of its own."""
        for address in (self.raw.get("status") or {}).get("addresses") or ():
            if address["type"] == "InternalIP":
                return str(address["address"])
        return "127.0.0.1"

    @property
    def disk_bytes(self) -> int:
        capacity = (self.raw.get("status") or {}).get("capacity") or {}
        found = capacity.get("ephemeral-storage")
        return parse_bytes(found) if found else self._settings.disk_gib * _GIB

    async def run(self) -> None:
        """Keep the node's status true until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._report())
            tasks.create_task(self._register())
            if self.raw["metadata"].get("labels", {}).get(GPU_COUNT_LABEL):
                tasks.create_task(self._advertise_gpus())

    # -- images ---------------------------------------------------------------------------------------------------

    def has_image(self, reference: str) -> bool:
        return self._images.has(reference, asyncio.get_running_loop().time())

    async def pull(self, reference: str) -> Pull:
        """The image, once it is on the disk; pods that want the same image share one transfer. Raises `DiskFull`."""
        size = image_bytes(reference, self._settings.images, self._settings.default_image_bytes)
        if self.has_image(reference):
            return Pull(size, None)
        started = asyncio.get_running_loop().time()
        digest = parse_image(reference).digest
        task = self._pulls.get(digest)
        if task is None:
            self._make_room(reference, size)
            task = self._pulls[digest] = asyncio.create_task(self._transfer(reference, digest, size))
        # Shielded: a pod that goes away does not stop the pull, neither here nor in life.
        await asyncio.shield(task)
        return Pull(size, asyncio.get_running_loop().time() - started)

    async def _transfer(self, reference: str, digest: str, size: int) -> None:
        self._arriving += size
        try:
            await asyncio.gather(self._link.transfer(size), asyncio.sleep(self._faults.pull_s(reference)))
            self._images.add(reference, size, asyncio.get_running_loop().time())
            self._dirty.set()
        finally:
            self._arriving -= size
            del self._pulls[digest]

    def _make_room(self, reference: str, size: int) -> None:
        """Collect unused images until the image fits; where it never will, report pressure and raise `DiskFull`."""
        disk = self.disk_bytes
        missing = size + self._arriving + self._images.bytes + self.pods_bytes - disk
        if missing > 0 and (freed := self._images.collect(missing, self.images_wanted())):
            missing -= freed
            self._dirty.set()
        if missing <= 0:
            return
        self._events.node(
            self.name, "FreeDiskSpaceFailed", f"Failed to garbage collect {missing} bytes for {reference}", warning=True
        )
        self.press()
        free = max(0, disk - self._images.bytes - self.pods_bytes)
        raise DiskFull(
            "The node was low on resource: ephemeral-storage. "
            f"Threshold quantity: {disk // 10}, available: {free // 1024}Ki. "
        )

    def press(self) -> None:
        """Report DiskPressure for a while."""
        if not self._pressure:
            self._pressure = True
            self._events.node(self.name, "NodeHasDiskPressure", f"Node {self.name} status is now: NodeHasDiskPressure")
            asyncio.get_running_loop().call_later(_PRESSURE_S, self._relax)
        self._dirty.set()

    def _relax(self) -> None:
        self._pressure = False
        self._dirty.set()

    # -- volumes --------------------------------------------------------------------------------------------------

    def use_volume(self, handle: str) -> None:
        self._in_use[f"kubernetes.io/csi/{DRIVER}^{handle}"] += 1
        self._dirty.set()

    def release_volume(self, handle: str) -> None:
        name = f"kubernetes.io/csi/{DRIVER}^{handle}"
        self._in_use[name] -= 1
        if self._in_use[name] <= 0:
            del self._in_use[name]
        self._dirty.set()

    # -- status ---------------------------------------------------------------------------------------------------

    async def _report(self) -> None:
        reported: dict[str, Any] = {"images": [], "volumesInUse": []}
        pressed = False
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            in_use = sorted(self._in_use) if self._settings.detach_late_s >= FORCED_DETACH_S else []
            status: dict[str, Any] = {"images": self._images.listed(), "volumesInUse": in_use}
            if status == reported and pressed == self._pressure:
                continue
            body = dict(status)
            if pressed != self._pressure:
                body["conditions"] = [_pressure_condition(self._pressure)]
            if await self._patch(body):
                reported, pressed = status, self._pressure
            else:
                await asyncio.sleep(1)
                self._dirty.set()

    async def _advertise_gpus(self) -> None:
        """What the device plugin's DaemonSet does: the GPUs appear some time after the node is Ready."""
        meta = self.raw["metadata"]
        count = meta["labels"][GPU_COUNT_LABEL]
        instance_type = meta["labels"].get("node.kubernetes.io/instance-type", "")
        await self._ready.wait()
        await asyncio.sleep(self._settings.device_plugin_s)
        while True:
            if self._faults.advertises_gpus(instance_type):
                gpus = {GPU: count}
                if await self._patch({"capacity": gpus, "allocatable": gpus}):
                    return
            await asyncio.sleep(_PLUGIN_RETRY_S)

    async def _register(self) -> None:
        """What the kubelet and the volume driver's agent announce once: without it no disk is ever attached."""
        steps = (
            (self._api.patch, core("nodes", name=self.name), {"metadata": {"uid": self.uid, "annotations": MANAGED}}),
            (self._api.post, group("storage.k8s.io/v1", "csinodes"), csi_node(self.name, self.uid)),
        )
        for call, path, body in steps:
            while True:
                try:
                    await call(path, body)
                except (Conflict, NotFound):
                    break
                except KubeError as error:
                    log.warning("node not registered node=%s problem=%s", self.name, error)
                    await asyncio.sleep(1)
                else:
                    break

    async def _patch(self, status: dict[str, Any]) -> bool:
        """True if the status was written, or the node is gone so that nobody misses it."""
        try:
            path = core("nodes", name=self.name, sub="status")
            await self._api.patch(path, {"metadata": {"uid": self.uid}, "status": status}, "strategic")
        except (NotFound, Conflict):
            return True
        except KubeError as error:
            log.warning("node status not written node=%s status=%s reason=%s", self.name, error.status, error.reason)
            return False
        return True


def _is_ready(raw: dict[str, Any]) -> bool:
    conditions = (raw.get("status") or {}).get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _pressure_condition(pressure: bool) -> dict[str, str]:
    return {
        "type": "DiskPressure",
        "status": str(pressure),
        "reason": "KubeletHasDiskPressure" if pressure else "KubeletHasNoDiskPressure",
        "message": "kubelet has disk pressure" if pressure else "kubelet has no disk pressure",
        "lastHeartbeatTime": timestamp(),
        "lastTransitionTime": timestamp(),
    }


def csi_node(name: str, uid: str) -> dict[str, Any]:
    """The CSINode of a node: the scheduler and Karpenter count attachments by it."""
    driver = {
        "name": DRIVER,
        "nodeID": name,
        "topologyKeys": ["topology.kubernetes.io/zone"],
        # What is left of a Nitro instance's 28 attachments after its root disk and network card.
        "allocatable": {"count": 26},
    }
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSINode",
        "metadata": {"name": name, "ownerReferences": [owner]},
        "spec": {"drivers": [driver]},
    }
