"""Sessions on the lab without a hub: the pods that GpuSpawner makes, run by KWOK instead of as notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from kubernetes_asyncio.client import ApiClient
from traitlets.config import Config

from gpu_launcher.cluster.api import KubeApi, Raw
from gpu_launcher.cluster.paths import core
from gpu_launcher.domain.request import StartRequest
from gpu_launcher.hub.offers import offers_of
from gpu_launcher.hub.spawner import GpuSpawner
from gpu_launcher.planning.placement import POOL_LABEL, place

NAMESPACE = "default"


def document(profiles: Sequence[Mapping[str, Any]], taint: str = "test", **cluster: Any) -> dict[str, Any]:
    """A configuration whose sessions tolerate a test's own NodePool."""
    first, *others = profiles
    return {
        "version": 1,
        "profiles": [{**first, "default": True}, *others],
        "cluster": {"toleration_keys": ["nvidia.com/gpu", taint], **cluster},
    }


async def session_pod(settings: Mapping[str, Any], name: str, profile: str, *, packed: bool = True) -> Raw:
    """The pod of a session, as KubeSpawner and the launcher make it.

    ``packed=False`` leaves the attraction between sessions of one pool out, to compare with.
    """
    config = Config()
    config.GpuSpawner.settings = dict(settings)
    config.GpuSpawner.instance = "lab"
    config.GpuSpawner.namespace = NAMESPACE
    hub = SimpleNamespace(base_url="/hub/", url="http://hub/", public_host="", api_url="http://hub/hub/api")
    user = SimpleNamespace(name=name, id=1, url=f"/user/{name}/", groups=[], db=None)
    orm = SimpleNamespace(user_options=None, name="", server=None)
    # The pod is only built here, and posted by the test under its own identity.
    with patch("kubespawner.spawner.load_config"), patch("kubespawner.spawner.shared_client"):
        spawner = GpuSpawner(_mock=True, user=user, hub=hub, orm_spawner=orm, config=config)
    spawner.api_token = "none"
    offers = offers_of(settings)
    offer = offers.by_id[profile]
    gpus = offer.profile.gpu.count if offer.profile.gpu else 0
    plan = place(
        offer.profile,
        StartRequest(profile, gpus=gpus),
        offer.pool,
        offers.settings.cluster,
        spawner._identity(spawner.person),
    )
    spawner._write(plan)
    pod = ApiClient.__new__(ApiClient).sanitize_for_serialization(await spawner.get_pod_manifest())
    pod["metadata"]["name"] = name
    # Without these labels KWOK runs the pod; with them the lab would start a notebook server.
    for label in ("component", "app.kubernetes.io/name"):
        pod["metadata"]["labels"].pop(label, None)
    pod["spec"]["terminationGracePeriodSeconds"] = 0
    if not packed:
        pod["spec"]["affinity"].pop("podAffinity")
    result: Raw = pod
    return result


async def placed(api: KubeApi, settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names of running sessions by node, for every pool of the document."""
    pools = ",".join(sorted({offer.pool.id for offer in offers_of(settings).by_id.values()}))
    pods = await api.get(core("pods", namespace=NAMESPACE), labelSelector=f"{POOL_LABEL} in ({pools})")
    nodes: dict[str, list[str]] = {}
    for pod in pods["items"]:
        if pod["spec"].get("nodeName") and not pod["metadata"].get("deletionTimestamp"):
            nodes.setdefault(pod["spec"]["nodeName"], []).append(pod["metadata"]["name"])
    return nodes
