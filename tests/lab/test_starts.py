"""Starts through a real hub, under the chart's and zero-to-jupyterhub's roles, on real Karpenter."""

from __future__ import annotations

import asyncio
import sys

import jupyterhub
import pytest

from browsers import logged_in
from gpu_launcher.cluster.api import KubeApi, Raw
from gpu_launcher.cluster.paths import core, group
from gpu_launcher.lab.handle import Lab
from gpu_launcher.lab.hub import Hub, start_hub
from gpu_launcher.lab.paths import LabError
from provisioning import eventually
from starts import CANARY, PLAIN_CONFIG, launcher_config, pod_of, spot_without_capacity, two_at_once, usd_per_hour

pytestmark = [pytest.mark.lab, pytest.mark.hub]

MAJOR = jupyterhub.version_info[0]


async def test_two_users_at_the_same_moment_get_two_small_machines(lab: Lab, api: KubeApi, launcher_hub: Hub) -> None:
    ours = await two_at_once(api, launcher_hub, {"profile": "a10g"})
    plain_hub = await start_hub(lab, f"plain{MAJOR}", PLAIN_CONFIG, python=sys.executable)
    plain = await two_at_once(api, plain_hub, None)
    await plain_hub.stop()
    print(f"\ntwo users at once: launcher {dict(ours)} for ${usd_per_hour(ours):.2f} an hour")
    print(f"two users at once: KubeSpawner {dict(plain)} for ${usd_per_hour(plain):.2f} an hour")
    assert ours == {"g5.xlarge": 2}
    assert plain == {"g5.12xlarge": 1}
    assert usd_per_hour(ours) < usd_per_hour(plain)


async def test_o5_form_rest_query_and_saved_options_make_the_same_pod(api: KubeApi, launcher_hub: Hub) -> None:
    user, choice = "eva", {"profile": "a10g", "image": "jax", "spot": True}
    pods: list[Raw] = []

    async def taken() -> None:
        pods.append(comparable(await pod_of(api, launcher_hub, user)))
        await launcher_hub.stop_server(user)

    async with logged_in(launcher_hub.url, user, launcher_hub.password) as browser:
        fields = {"profile": "a10g", "profile-option-a10g--image": "jax", "profile-option-a10g--spot": "true"}
        assert (await browser.post("/hub/spawn", fields))[0] == 302
        await taken()
        await launcher_hub.api(f"users/{user}/server", "POST", choice)
        await taken()
        query = {"opt-profile": "a10g", "opt-image": "jax", "opt-spot": "true"}
        assert (await browser.get("/hub/spawn", **query))[0] == 302
        await taken()
        await launcher_hub.api(f"users/{user}/server", "POST")
        await taken()
    assert len(pods) == 4
    assert pods[1:] == pods[:-1]
    assert pods[0]["metadata"]["labels"]["gpu-launcher/capacity"] == "spot-first"
    assert pods[0]["spec"]["containers"][0]["image"] == "example.org/jax:0.7"


async def test_spot_first_falls_back_to_on_demand_by_itself(lab: Lab, api: KubeApi, launcher_hub: Hub) -> None:
    fallback = await spot_without_capacity(lab, api, launcher_hub)
    print(f"\nspot-first without spot: session ready on {fallback.capacity_type} after {fallback.seconds:.1f} s")
    assert fallback.capacity_type == "on-demand"


async def test_o12_the_limit_counts_live_pods_over_all_servers(api: KubeApi, launcher_hub: Hub) -> None:
    outcomes = await asyncio.gather(
        *(launcher_hub.start_server("max", name, {"profile": "a10g"}) for name in ("one", "two", "three")),
        return_exceptions=True,
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, LabError)]
    assert len(refused) == 1, outcomes
    assert "2 GPUs" in str(refused[0])
    pods = await api.get(core("pods", namespace=launcher_hub.namespace), labelSelector="gpu-launcher/profile=a10g")
    mine = [pod for pod in pods["items"] if pod["metadata"]["annotations"]["hub.jupyter.org/username"] == "max"]
    assert len(mine) == 2
    for pod in mine:
        await launcher_hub.stop_server("max", pod["metadata"]["annotations"]["hub.jupyter.org/servername"])


async def test_w7_a_refused_pod_leaves_no_token_in_the_log(api: KubeApi, launcher_hub: Hub) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none"},
        "spec": {"hard": {"requests.nvidia.com/gpu": "0"}},
    }
    path = core("resourcequotas", namespace=launcher_hub.namespace)
    await api.post(path, quota)

    async def counted() -> bool:
        return bool((await api.get(f"{path}/none")).get("status", {}).get("hard"))

    await eventually(counted, 20, "the quota is in force")
    before = launcher_hub.log.stat().st_size
    try:
        with pytest.raises(LabError) as told:
            await launcher_hub.start_server("tom", options={"profile": "a10g"})
    finally:
        await api.delete(f"{path}/none")
    logged = launcher_hub.log.read_text()[before:]
    assert "quota" in str(told.value)
    assert "JUPYTERHUB_API_TOKEN" not in logged
    assert CANARY not in logged + str(told.value)
    assert "Traceback" not in logged


async def test_a_hub_without_a_verb_of_its_role_cannot_start_a_session(lab: Lab, api: KubeApi, product: None) -> None:
    namespace = f"verbless{MAJOR}"
    hub = await start_hub(lab, namespace, launcher_config({"version": 1}), python=sys.executable)
    path = group("rbac.authorization.k8s.io/v1", "roles", namespace=namespace, name="hub")
    try:
        role = await api.get(path)
        for rule in role["rules"]:
            rule["verbs"] = [verb for verb in rule["verbs"] if verb != "create"]
        await api.put(path, role)
        with pytest.raises(LabError):
            await hub.start_server("ann", options={"profile": "cpu"}, timeout_s=60)
        logged = hub.log.read_text()
    finally:
        await hub.stop()
    # The volume claim or the pod, whichever the hub makes first.
    assert "is forbidden" in logged
    assert "cannot create resource" in logged


def comparable(pod: Raw) -> Raw:
    """The pod without what differs between any two starts: identity, time, tokens, and what the cluster adds."""
    kept = {"metadata": {key: pod["metadata"][key] for key in ("name", "labels", "annotations")}, "spec": pod["spec"]}
    del kept["metadata"]["annotations"]["gpu-launcher/story"]
    # Kubernetes writes where a pod landed into the pod: a node, a region, a zone.
    kept["spec"].pop("nodeName", None)
    kept["metadata"]["labels"] = {
        key: value for key, value in pod["metadata"]["labels"].items() if not key.startswith("topology.kubernetes.io/")
    }
    for container in kept["spec"]["containers"]:
        container["env"] = [entry for entry in container["env"] if "TOKEN" not in entry["name"]]
    return kept
