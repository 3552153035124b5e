"""A pod's own identity: a token bound to the pod, and the kubeconfig through which its process finds the API server."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gpu_launcher.cluster.api import KubeApi
from gpu_launcher.cluster.paths import core


@dataclass(frozen=True, slots=True)
class ApiServer:
    """Where the API server is, and the certificate to trust (PEM)."""

    url: str
    ca: bytes

    @classmethod
    def from_kubeconfig(cls, path: Path) -> ApiServer:
        """The server of a kubeconfig's current context, or of its only cluster."""
        document = yaml.safe_load(path.read_text())
        contexts = {item["name"]: item["context"] for item in document.get("contexts") or ()}
        wanted = contexts.get(document.get("current-context"), {}).get("cluster")
        clusters = {item["name"]: item["cluster"] for item in document["clusters"]}
        cluster = clusters[wanted] if wanted in clusters else next(iter(clusters.values()))
        if "certificate-authority-data" in cluster:
            return cls(cluster["server"], base64.b64decode(cluster["certificate-authority-data"]))
        authority = path.parent / cluster["certificate-authority"]
        return cls(cluster["server"], authority.read_bytes())


async def bound_token(api: KubeApi, pod: Mapping[str, Any], source: Mapping[str, Any]) -> str:
    """A token of the pod's service account that dies with the pod; `source` is the volume's serviceAccountToken."""
    meta = pod["metadata"]
    spec: dict[str, Any] = {
        # The admission plugin asks for 3607 s: the API server lets such tokens live on, so none is rotated.
        "expirationSeconds": source.get("expirationSeconds", 3600),
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]},
    }
    if source.get("audience"):
        spec["audiences"] = [source["audience"]]
    account = pod["spec"].get("serviceAccountName") or "default"
    path = core("serviceaccounts", namespace=meta["namespace"], name=account, sub="token")
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    answer = await api.post(path, request)
    return str(answer["status"]["token"])


def write_kubeconfig(path: Path, server: str, account: Path, namespace: str) -> None:
    """A kubeconfig out of a mounted service account directory (`ca.crt`, `token`)."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "pod",
        "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority": str(account / "ca.crt")}}],
        "users": [{"name": "pod", "user": {"tokenFile": str(account / "token")}}],
        "contexts": [{"name": "pod", "context": {"cluster": "lab", "user": "pod", "namespace": namespace}}],
    }
    path.write_text(yaml.safe_dump(document))
    path.chmod(0o600)
