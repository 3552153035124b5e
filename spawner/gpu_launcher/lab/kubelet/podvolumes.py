"""A pod's volumes as directories of this machine, mounted when their content or their disk is there."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpu_launcher.cluster.api import KubeApi
from gpu_launcher.cluster.errors import NotFound
from gpu_launcher.cluster.paths import core
from gpu_launcher.lab.kubelet.credentials import ApiServer, bound_token
from gpu_launcher.lab.kubelet.environment import ConfigError, field_value, read_data
from gpu_launcher.lab.paths import LabPaths

Raw = dict[str, Any]


class Attachments:
    """Which volumes are attached where, as the attacher says; `observe` is an informer's callback."""

    def __init__(self) -> None:
        self._attached: dict[str, tuple[str, str]] = {}
        self._waiting: dict[tuple[str, str], asyncio.Event] = {}

    def observe(self, kind: str, item: Raw) -> None:
        name = item["metadata"]["name"]
        volume = item["spec"]["source"].get("persistentVolumeName") or ""
        key = (volume, item["spec"]["nodeName"])
        going = kind == "DELETED" or "deletionTimestamp" in item["metadata"]
        if not going and (item.get("status") or {}).get("attached"):
            self._attached[name] = key
            if waiting := self._waiting.pop(key, None):
                waiting.set()
        else:
            self._attached.pop(name, None)

    async def attached(self, volume: str, node: str) -> None:
        """Returns when the volume is attached to the node."""
        key = (volume, node)
        if key not in self._attached.values():
            await self._waiting.setdefault(key, asyncio.Event()).wait()


class PodVolumes:
    """The volumes of one pod on one node."""

    def __init__(
        self, api: KubeApi, server: ApiServer, attachments: Attachments, paths: LabPaths, directory: Path
    ) -> None:
        self._api = api
        self._server = server
        self._attachments = attachments
        self._paths = paths
        self._directory = directory / "volumes"

    async def claimed(self, pod: Raw) -> dict[str, Raw]:
        """Volume name -> PersistentVolume of the pod's claims. Raises `ConfigError` where a claim is not bound."""
        found: dict[str, Raw] = {}
        namespace = pod["metadata"]["namespace"]
        for volume in pod["spec"].get("volumes") or ():
            if claim := _claim_name(pod, volume):
                try:
                    pvc = await self._api.get(core("persistentvolumeclaims", namespace=namespace, name=claim))
                    name = (pvc.get("spec") or {}).get("volumeName")
                    if not name or (pvc.get("status") or {}).get("phase") != "Bound":
                        raise ConfigError(f"PVC {namespace}/{claim} is not bound")
                    found[volume["name"]] = await self._api.get(core("persistentvolumes", name=name))
                except NotFound as error:
                    raise ConfigError(f"error getting PVC {namespace}/{claim}: {error.message}") from error
        return found

    async def attach(self, disks: Mapping[str, Raw], node: str) -> dict[str, Path]:
        """Volume name -> directory, when all `disks` are attached to the node; one that needs no attaching is."""
        mounted: dict[str, Path] = {}
        for name, volume in disks.items():
            pv = volume["metadata"]["name"]
            if "csi" in volume["spec"]:
                await self._attachments.attached(pv, node)
            path = self._paths.volumes / pv
            path.mkdir(parents=True, exist_ok=True)
            mounted[name] = path
        return mounted

    async def fill(self, pod: Raw, *, pod_ip: str, host_ip: str) -> dict[str, Path]:
        """Volume name -> directory of all volumes that are not claims. Raises `ConfigError` for missing content."""
        mounted: dict[str, Path] = {}
        for volume in pod["spec"].get("volumes") or ():
            if _claim_name(pod, volume) is not None:
                continue
            if host_path := volume.get("hostPath"):
                mounted[volume["name"]] = self._host_path(Path(host_path["path"]))
                continue
            path = self._directory / volume["name"]
            path.mkdir(parents=True, exist_ok=True)
            files = await self._files(pod, volume, pod_ip=pod_ip, host_ip=host_ip)
            for name, content in files.items():
                _write(path / name, content)
            mounted[volume["name"]] = path
        return mounted

    def _host_path(self, path: Path) -> Path:
        if not path.is_relative_to(self._paths.directory):
            raise ConfigError(f"hostPath {path}: pods of the lab reach this machine only below {self._paths.directory}")
        path.mkdir(parents=True, exist_ok=True)
        return path

    def remove(self) -> None:
        """Delete what the pod kept on the node; its logs and its disks stay."""
        for path in self._directory.parent.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.suffix != ".log":
                path.unlink(missing_ok=True)

    async def _files(self, pod: Raw, volume: Raw, *, pod_ip: str, host_ip: str) -> dict[str, bytes]:
        if "emptyDir" in volume:
            return {}
        if "projected" in volume:
            files: dict[str, bytes] = {}
            for source in volume["projected"].get("sources") or ():
                files |= await self._source(pod, source, pod_ip=pod_ip, host_ip=host_ip)
            return files
        if "secret" in volume:
            source = volume["secret"] | {"name": volume["secret"].get("secretName")}
            return await self._source(pod, {"secret": source}, pod_ip=pod_ip, host_ip=host_ip)
        return await self._source(pod, volume, pod_ip=pod_ip, host_ip=host_ip)

    async def _source(self, pod: Raw, source: Raw, *, pod_ip: str, host_ip: str) -> dict[str, bytes]:
        if token := source.get("serviceAccountToken"):
            return {token["path"]: (await bound_token(self._api, pod, token)).encode()}
        if fields := source.get("downwardAPI"):
            return {
                item["path"]: field_value(pod, item["fieldRef"]["fieldPath"], pod_ip=pod_ip, host_ip=host_ip).encode()
                for item in fields.get("items") or ()
            }
        for field, kind in (("configMap", "configmaps"), ("secret", "secrets")):
            if ref := source.get(field):
                return await self._data(pod["metadata"]["namespace"], kind, ref)
        raise ConfigError(f"the lab's kubelet does not know this kind of volume: {', '.join(sorted(source))}")

    async def _data(self, namespace: str, kind: str, ref: Raw) -> dict[str, bytes]:
        if ref["name"] == "kube-root-ca.crt":
            # Published by kube-controller-manager a moment after the namespace; the content is known here.
            return {"ca.crt": self._server.ca}
        data = await read_data(self._api, kind, namespace, ref["name"], optional=bool(ref.get("optional"))) or {}
        if not ref.get("items"):
            return data
        missing = [item["key"] for item in ref["items"] if item["key"] not in data]
        if missing and not ref.get("optional"):
            raise ConfigError(f"{kind[:-1]} references non-existent key: {missing[0]}")
        return {item["path"]: data[item["key"]] for item in ref["items"] if item["key"] in data}


def _claim_name(pod: Raw, volume: Raw) -> str | None:
    if claim := volume.get("persistentVolumeClaim"):
        return str(claim["claimName"])
    if "ephemeral" in volume:
        return f"{pod['metadata']['name']}-{volume['name']}"
    return None


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
