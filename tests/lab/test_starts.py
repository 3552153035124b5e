"""Starts through a real hub, under the chart's and zero-to-jupyterhub's roles, on real Karpenter."""

from __future__ import annotations

import asyncio
import sys
import time

import jupyterhub
import pytest

from browsers import logged_in
from gpu_launcher.cluster.api import KubeApi, Raw
from gpu_launcher.cluster.paths import core, group
from gpu_launcher.lab.handle import Lab
from gpu_launcher.lab.hub import Hub, HubError, start_hub
from gpu_launcher.lab.paths import LabError
from gpu_launcher.settings.catalogue import load_catalogue
from provisioning import CAPACITY_TYPE, INSTANCE_TYPE, eventually
from starts import PLAIN_CONFIG, launcher_config, machines, no_machines, node_of, pod_of

pytestmark = [pytest.mark.lab, pytest.mark.hub]

PRICES = {kind.name: kind.usd_per_hour or 0.0 for kind in load_catalogue()}
MAJOR = jupyterhub.version_info[0]


def usd_per_hour(bought: dict[str, int]) -> float:
    return sum(PRICES[name] * count for name, count in bought.items())


async def test_two_users_at_the_same_moment_get_two_small_machines(lab: Lab, api: KubeApi, launcher_hub: Hub) -> None:
    await no_machines(api)
    await asyncio.gather(*(launcher_hub.start_server(user, options={"profile": "a10g"}) for user in ("ann", "ben")))
    ours = dict(await machines(api))
    types = {(await node_of(api, launcher_hub, user))["metadata"]["labels"][INSTANCE_TYPE] for user in ("ann", "ben")}
    assert types == {"g5.xlarge"}
    assert ours == {"g5.xlarge": 2}
    await asyncio.gather(*(launcher_hub.stop_server(user) for user in ("ann", "ben")))

    await no_machines(api)
    plain_hub = await start_hub(lab, f"plain{MAJOR}", PLAIN_CONFIG, python=sys.executable)
    await asyncio.gather(*(plain_hub.start_server(user) for user in ("ann", "ben")))
    plain = dict(await machines(api))
    await plain_hub.stop()
    print(f"\ntwo users at once: launcher {ours} for ${usd_per_hour(ours):.2f} an hour")
    print(f"two users at once: KubeSpawner {plain} for ${usd_per_hour(plain):.2f} an hour")
    assert plain == {"g5.12xlarge": 1}
    assert usd_per_hour(ours) < usd_per_hour(plain)


async def test_o5_form_rest_query_and_saved_options_make_the_same_pod(api: KubeApi, launcher_hub: Hub) -> None:
    user, choice = "eva", {"profile": "a10g", "image": "jax", "spot": True}
    pods: list[Raw] = []

    async def taken() -> None:
        pods.append(comparable(await pod_of(api, launcher_hub, user)))
        await launcher_hub.stop_server(user)

    async with logged_in(launcher_hub.url, user) as browser:
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
    await no_machines(api)
    lab.faults.ice(capacity_type="spot")
    started = time.monotonic()
    try:
        await launcher_hub.start_server("sam", options={"profile": "spot-l4"})
    finally:
        lab.faults.clear()
    took = time.monotonic() - started
    node = await node_of(api, launcher_hub, "sam")
    await launcher_hub.stop_server("sam")
    claim = await api.get(
        group("karpenter.sh/v1", "nodeclaims"), labelSelector="karpenter.sh/nodepool=gpu-launcher-gpu"
    )
    print(f"\nspot-first without spot: ready on on-demand after {took:.1f} s (claims: {len(claim['items'])})")
    assert node["metadata"]["labels"][CAPACITY_TYPE] == "on-demand"


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
    assert "Traceback" not in logged


async def test_a_hub_without_a_verb_of_its_role_cannot_start_a_session(lab: Lab, api: KubeApi, product: None) -> None:
    namespace = f"verbless{MAJOR}"
    hub = await start_hub(lab, namespace, launcher_config({"version": 1}), python=sys.executable)
    path = group("rbac.authorization.k8s.io/v1", "roles", namespace=namespace, name="hub")
    role = await api.get(path)
    for rule in role["rules"]:
        rule["verbs"] = [verb for verb in rule["verbs"] if verb != "create"]
    await api.put(path, role)
    with pytest.raises((LabError, HubError)):
        await hub.start_server("ann", options={"profile": "cpu"}, timeout_s=60)
    await hub.stop()


def comparable(pod: Raw) -> Raw:
    """The pod without what differs between any two starts: identity, time, tokens, and what the cluster adds."""
    kept = {"metadata": {key: pod["metadata"][key] for key in ("name", "labels", "annotations")}, "spec": pod["spec"]}
    kept["spec"].pop("nodeName", None)
    for container in kept["spec"]["containers"]:
        container["env"] = [entry for entry in container["env"] if "TOKEN" not in entry["name"]]
    return kept
