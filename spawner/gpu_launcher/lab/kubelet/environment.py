"""The environment of a container, resolved from the pod as a kubelet does."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from gpu_launcher.cluster.api import KubeApi
from gpu_launcher.cluster.errors import NotFound
from gpu_launcher.cluster.paths import core
from gpu_launcher.domain.quantity import parse_bytes, parse_cpu
from gpu_launcher.lab.kubelet.mounts import expand

_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_KEYED_FIELD = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class ConfigError(Exception):
    """The container cannot be created as written (`CreateContainerConfigError`); the message is the kubelet's."""


def field_value(pod: Mapping[str, Any], path: str, *, pod_ip: str, host_ip: str) -> str:
    """A field of the pod by its downward-API path. Raises `ConfigError` for a path that the API does not offer."""
    meta, spec = pod["metadata"], pod["spec"]
    if match := _KEYED_FIELD.fullmatch(path):
        return str((meta.get(match[1]) or {}).get(match[2], ""))
    plain = {
        "metadata.name": meta.get("name"),
        "metadata.namespace": meta.get("namespace"),
        "metadata.uid": meta.get("uid"),
        "spec.nodeName": spec.get("nodeName"),
        "spec.serviceAccountName": spec.get("serviceAccountName"),
        "status.podIP": pod_ip,
        "status.podIPs": pod_ip,
        "status.hostIP": host_ip,
        "status.hostIPs": host_ip,
    }
    if path in plain:
        return str(plain[path] or "")
    if path in ("metadata.labels", "metadata.annotations"):
        return "\n".join(f'{key}="{value}"' for key, value in (meta.get(path[9:]) or {}).items())
    raise ConfigError(f"unsupported fieldPath: {path}")


async def read_data(api: KubeApi, kind: str, namespace: str, name: str, *, optional: bool) -> dict[str, bytes] | None:
    """The data of a `configmaps` or `secrets` object; None if it is missing and optional, else `ConfigError`."""
    try:
        found = await api.get(core(kind, namespace=namespace, name=name))
    except NotFound:
        if optional:
            return None
        raise ConfigError(f'{kind[:-1]} "{name}" not found') from None
    plain: dict[str, str] = found.get("data") or {}
    if kind == "secrets":
        return {key: base64.b64decode(value) for key, value in plain.items()}
    binary: dict[str, str] = found.get("binaryData") or {}
    texts = {key: value.encode() for key, value in plain.items()}
    return texts | {key: base64.b64decode(value) for key, value in binary.items()}


async def container_environment(
    api: KubeApi, pod: Mapping[str, Any], container: Mapping[str, Any], *, pod_ip: str, host_ip: str
) -> dict[str, str]:
    """The variables that the pod gives a container, `$(NAME)` expanded. Raises `ConfigError` for what is missing."""
    namespace = pod["metadata"]["namespace"]
    env: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        kind = "configmaps" if "configMapRef" in source else "secrets"
        ref = source.get("configMapRef") or source.get("secretRef") or {}
        data = await read_data(api, kind, namespace, ref["name"], optional=bool(ref.get("optional")))
        prefix = source.get("prefix", "")
        for key, value in (data or {}).items():
            if _NAME.fullmatch(prefix + key):
                env[prefix + key] = value.decode(errors="replace")
    for item in container.get("env") or ():
        value_from = item.get("valueFrom")
        if value_from is None:
            env[item["name"]] = expand(item.get("value") or "", env)
            continue
        text = await _value_from(api, pod, container, value_from, pod_ip=pod_ip, host_ip=host_ip)
        if text is not None:
            env[item["name"]] = text
    return env


async def _value_from(
    api: KubeApi,
    pod: Mapping[str, Any],
    container: Mapping[str, Any],
    source: Mapping[str, Any],
    *,
    pod_ip: str,
    host_ip: str,
) -> str | None:
    if ref := source.get("fieldRef"):
        return field_value(pod, ref["fieldPath"], pod_ip=pod_ip, host_ip=host_ip)
    if ref := source.get("resourceFieldRef"):
        return _resource(container, ref)
    kind, ref = next(
        (kind, source[key])
        for key, kind in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets"))
        if key in source
    )
    optional = bool(ref.get("optional"))
    data = await read_data(api, kind, pod["metadata"]["namespace"], ref["name"], optional=optional)
    if data is not None and ref["key"] in data:
        return data[ref["key"]].decode(errors="replace")
    if optional:
        return None
    raise ConfigError(f"couldn't find key {ref['key']} in {kind[:-1]} {pod['metadata']['namespace']}/{ref['name']}")


def _resource(container: Mapping[str, Any], ref: Mapping[str, Any]) -> str:
    side, _, name = ref["resource"].partition(".")
    value = ((container.get("resources") or {}).get(side) or {}).get(name)
    if value is None:
        raise ConfigError(f"resource {ref['resource']} is not set; set it or give the value itself")
    divisor = str(ref.get("divisor") or "1")
    if name == "cpu":
        return str(-(-parse_cpu(str(value)) // (parse_cpu(divisor) or 1000)))
    return str(-(-parse_bytes(str(value)) // (parse_bytes(divisor) or 1)))
