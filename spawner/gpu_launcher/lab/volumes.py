"""Disks like EBS: made in the zone of their first consumer, attached to one node at a time, let go late by a lost node.

Plays the external provisioner and the external attacher of a CSI driver. Binding, attaching and Multi-Attach errors are
the real kube-controller-manager's; what a disk holds is a directory of this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Awaitable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from gpu_launcher.cluster.api import KubeApi
from gpu_launcher.cluster.errors import Conflict, KubeError, NotFound
from gpu_launcher.cluster.informer import Informer
from gpu_launcher.cluster.paths import core, group
from gpu_launcher.lab.paths import LabPaths
from gpu_launcher.lab.settings import LabSettings

Raw = dict[str, Any]
log = logging.getLogger(__name__)

DRIVER = "ebs.csi.lab"
STORAGE = "storage.k8s.io/v1"
ZONE = "topology.kubernetes.io/zone"
STORAGE_CLASS = "gp3"

# For a lost node that reported a disk in use, kube-controller-manager waits 6 min before it forces the detach; nothing
# shortens that. In a lab with less patience nodes do not report, and the attacher alone holds the disk back.
FORCED_DETACH_S = 360.0

_SELECTED_NODE = "volume.kubernetes.io/selected-node"
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_ATTACHER = "external-attacher/ebs-csi-lab"
# Between two attempts after an error, and between two looks at a disk that another node still holds.
_RETRY_S = 1.0

STORAGE_CLASS_OBJECT: Raw = {
    "apiVersion": STORAGE,
    "kind": "StorageClass",
    "metadata": {"name": STORAGE_CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": DRIVER,
    "volumeBindingMode": "WaitForFirstConsumer",
    "reclaimPolicy": "Delete",
    "allowVolumeExpansion": True,
}
CSI_DRIVER_OBJECT: Raw = {
    "apiVersion": STORAGE,
    "kind": "CSIDriver",
    "metadata": {"name": DRIVER},
    "spec": {"attachRequired": True, "podInfoOnMount": False, "volumeLifecycleModes": ["Persistent"]},
}


def volume_for(claim: Raw, storage_class: Raw, zone: str) -> Raw:
    """The PersistentVolume that serves a claim, in a zone; named after the claim, so that a retry makes no second."""
    meta, spec = claim["metadata"], claim["spec"]
    name = f"pvc-{meta['uid']}"
    handle = f"vol-{sha256(name.encode()).hexdigest()[:17]}"
    reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    reference |= {key: meta[key] for key in ("namespace", "name", "uid", "resourceVersion")}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {_PROVISIONED_BY: DRIVER}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "claimRef": reference,
            "csi": {"driver": DRIVER, "volumeHandle": handle, "fsType": "ext4"},
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": ZONE, "operator": "In", "values": [zone]}]}]
                }
            },
            "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy", "Delete"),
            "storageClassName": storage_class["metadata"]["name"],
            "volumeMode": "Filesystem",
        },
    }


async def run_volumes(api: KubeApi, paths: LabPaths, settings: LabSettings) -> None:
    """Serve claims and attachments until cancelled. The storage class `gp3` is the default one."""
    for resource, body in (("storageclasses", STORAGE_CLASS_OBJECT), ("csidrivers", CSI_DRIVER_OBJECT)):
        with contextlib.suppress(Conflict):
            await api.post(group(STORAGE, resource), body)
    async with asyncio.TaskGroup() as tasks:
        await _Driver(api, paths, settings, tasks).run()


class _Driver:
    def __init__(self, api: KubeApi, paths: LabPaths, settings: LabSettings, tasks: asyncio.TaskGroup) -> None:
        self._api = api
        self._paths = paths
        self._settings = settings
        self._tasks = tasks
        # Work in hand, by the object's kind and uid: one object is never worked on twice at once.
        self._busy: set[tuple[str, str]] = set()
        # PersistentVolume -> the node that holds the disk: the truth of the cloud, whatever the API objects say.
        self._held_by: dict[str, str] = {}
        self._nodes = Informer(api, core("nodes"))

    async def run(self) -> None:
        claims = Informer(self._api, core("persistentvolumeclaims"))
        volumes = Informer(self._api, core("persistentvolumes"))
        attachments = Informer(self._api, group(STORAGE, "volumeattachments"))
        claims.subscribe(self._on_claim)
        volumes.subscribe(self._on_volume)
        attachments.subscribe(self._on_attachment)
        for informer in (self._nodes, claims, volumes, attachments):
            self._tasks.create_task(informer.run())
        await asyncio.Event().wait()

    def _do(self, key: tuple[str, str], work: Awaitable[None]) -> None:
        self._busy.add(key)

        async def guarded() -> None:
            try:
                await work
            except Exception:
                log.exception("the volume driver's task ended kind=%s uid=%s", *key)
            finally:
                self._busy.discard(key)

        self._tasks.create_task(guarded())

    # -- provisioner ----------------------------------------------------------------------------------------------

    def _on_claim(self, kind: str, claim: Raw) -> None:
        meta = claim["metadata"]
        key = ("claim", meta["uid"])
        node = (meta.get("annotations") or {}).get(_SELECTED_NODE)
        unbound = node and not claim["spec"].get("volumeName")
        if kind != "DELETED" and unbound and "deletionTimestamp" not in meta and key not in self._busy:
            self._do(key, self._provision(claim, str(node)))

    async def _provision(self, claim: Raw, node_name: str) -> None:
        meta = claim["metadata"]
        path = group(STORAGE, "storageclasses", name=claim["spec"].get("storageClassName") or STORAGE_CLASS)
        while True:
            try:
                storage_class = await self._api.get(path)
                if storage_class["provisioner"] != DRIVER:
                    return
                node = await self._api.get(core("nodes", name=node_name))
                zone = (node["metadata"].get("labels") or {}).get(ZONE)
                if zone is None:
                    # As the real provisioner does: another node is to be chosen.
                    log.warning("no zone for claim=%s/%s node=%s", meta["namespace"], meta["name"], node_name)
                    await self._unselect(claim)
                    return
                volume = volume_for(claim, storage_class, zone)
                (self._paths.volumes / volume["metadata"]["name"]).mkdir(parents=True, exist_ok=True)
                await self._api.post(core("persistentvolumes"), volume)
            except NotFound:
                # The node went away before the disk was made: the scheduler chooses again.
                with contextlib.suppress(KubeError):
                    await self._unselect(claim)
                return
            except Conflict:
                return
            except KubeError as error:
                log.warning("provisioning claim=%s/%s problem=%s", meta["namespace"], meta["name"], error)
                await asyncio.sleep(_RETRY_S)
            else:
                log.info("provisioned claim=%s/%s zone=%s", meta["namespace"], meta["name"], zone)
                return

    async def _unselect(self, claim: Raw) -> None:
        meta = claim["metadata"]
        path = core("persistentvolumeclaims", namespace=meta["namespace"], name=meta["name"])
        await self._api.patch(path, {"metadata": {"uid": meta["uid"], "annotations": {_SELECTED_NODE: None}}})

    def _on_volume(self, kind: str, volume: Raw) -> None:
        meta, spec = volume["metadata"], volume["spec"]
        key = ("volume", meta["uid"])
        released = (volume.get("status") or {}).get("phase") == "Released"
        ours = (meta.get("annotations") or {}).get(_PROVISIONED_BY) == DRIVER
        wanted = spec.get("persistentVolumeReclaimPolicy") == "Delete"
        going = kind == "DELETED" or "deletionTimestamp" in meta
        if not going and ours and released and wanted and key not in self._busy:
            self._do(key, self._reclaim(meta["name"]))

    async def _reclaim(self, name: str) -> None:
        while name in self._held_by:  # noqa: ASYNC110  # seconds, and rare
            await asyncio.sleep(_RETRY_S)
        await asyncio.to_thread(shutil.rmtree, self._paths.volumes / name, ignore_errors=True)
        await self._retried(self._api.delete, core("persistentvolumes", name=name))
        log.info("reclaimed volume=%s", name)

    # -- attacher -------------------------------------------------------------------------------------------------

    def _on_attachment(self, kind: str, attachment: Raw) -> None:
        meta, spec = attachment["metadata"], attachment["spec"]
        key = ("attachment", meta["uid"])
        if spec.get("attacher") != DRIVER or kind == "DELETED" or key in self._busy:
            return
        if "deletionTimestamp" in meta:
            self._do(key, self._detach(attachment))
        elif not (attachment.get("status") or {}).get("attached"):
            self._do(key, self._attach(attachment))

    async def _attach(self, attachment: Raw) -> None:
        meta, spec = attachment["metadata"], attachment["spec"]
        volume, node = spec["source"]["persistentVolumeName"], spec["nodeName"]
        path = group(STORAGE, "volumeattachments", name=meta["name"])
        finalizers = sorted({*meta.get("finalizers", ()), _ATTACHER})
        await self._retried(self._api.patch, path, {"metadata": {"uid": meta["uid"], "finalizers": finalizers}})
        while self._held_by.get(volume, node) != node:
            message = f"VolumeInUse: {volume} is already attached to an instance ({self._held_by[volume]})"
            problem = {"message": message, "time": datetime.now(UTC).isoformat()}
            status = {"attached": False, "attachError": problem}
            body = {"metadata": {"uid": meta["uid"]}, "status": status}
            if not await self._retried(self._api.patch, f"{path}/status", body):
                return
            await asyncio.sleep(_RETRY_S)
        self._held_by[volume] = node
        await asyncio.sleep(self._settings.attach_s)
        body = {"metadata": {"uid": meta["uid"]}, "status": {"attached": True, "attachError": None}}
        if await self._retried(self._api.patch, f"{path}/status", body):
            log.info("attached volume=%s node=%s", volume, node)
        # A deletion that came meanwhile found this task busy.
        with contextlib.suppress(NotFound):
            newest = await self._api.get(path)
            if newest["metadata"]["uid"] == meta["uid"] and "deletionTimestamp" in newest["metadata"]:
                await self._detach(newest)

    async def _detach(self, attachment: Raw) -> None:
        meta, spec = attachment["metadata"], attachment["spec"]
        volume, node = spec["source"]["persistentVolumeName"], spec["nodeName"]
        lost = ("", node) not in self._nodes.items
        late = self._settings.detach_late_s
        if lost and late < FORCED_DETACH_S:
            log.info("volume=%s stays with the lost node=%s for %.0f s", volume, node, late)
            await asyncio.sleep(late)
        else:
            await asyncio.sleep(self._settings.attach_s)
        if self._held_by.get(volume) == node:
            del self._held_by[volume]
        path = group(STORAGE, "volumeattachments", name=meta["name"])
        finalizers = [item for item in meta.get("finalizers", ()) if item != _ATTACHER]
        await self._retried(self._api.patch, path, {"metadata": {"uid": meta["uid"], "finalizers": finalizers}})
        log.info("detached volume=%s node=%s", volume, node)

    async def _retried(self, call: Any, *arguments: Any) -> bool:
        """True once the call went through; False if its object is gone or is another by now."""
        while True:
            try:
                await call(*arguments)
            except (NotFound, Conflict):
                return False
            except KubeError as error:
                log.warning("volume driver: %s", error)
                await asyncio.sleep(_RETRY_S)
            else:
                return True
