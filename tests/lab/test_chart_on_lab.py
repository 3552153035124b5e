"""The chart on a real control plane: installed it buys nothing, asked for it serves, uninstalled it is gone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gpu_launcher.cluster.api import KubeApi, Raw
from gpu_launcher.cluster.errors import NotFound
from gpu_launcher.cluster.paths import core, group
from gpu_launcher.lab.handle import Lab
from gpu_launcher.lab.paths import LabError
from provisioning import GPU, KARPENTER, eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

CHART = Path(__file__).resolve().parents[2] / "helm" / "gpu-launcher"
# Not the product's own release, which other tests may have installed.
RELEASE = "chart"
NAMESPACE = "chart"
POOLS = {
    "nodePools": {
        "create": True,
        "gpu": {"limits": {GPU: 8}, "consolidateAfter": "1s"},
        "cpu": {"limits": {"cpu": 32}, "consolidateAfter": "1s"},
    },
    "nodeClass": {"create": True, "kind": "KWOKNodeClass", "kwok": {"nodeRegistrationDelay": "1s"}},
}
AUTHORIZATION = "authorization.k8s.io/v1"
READ = ("get", "list", "watch")
GPU_TAINT = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
USER_TAINT = {"key": "hub.jupyter.org/dedicated", "operator": "Equal", "value": "user", "effect": "NoSchedule"}


class Release:
    """The chart under its own name in its own namespace."""

    def __init__(self, lab: Lab, api: KubeApi) -> None:
        self.lab = lab
        self.api = api

    async def helm(self, verb: str, *arguments: str, values: Raw | None = None) -> str:
        """What Helm says. ``values`` are the chart's own, by default none."""
        items = [part for key, value in (values or {}).items() for part in ("--set-json", f"{key}={json.dumps(value)}")]
        return await self.lab.helm(verb, RELEASE, *arguments, *items, "--namespace", NAMESPACE)

    async def install(self, values: Raw | None = None) -> str:
        return await self.helm("install", str(CHART), values=values)

    async def labelled(self) -> set[str]:
        """``kind/namespace/name`` of every object of any kind that bears this release's label."""
        found = set()
        for path in await self._listable():
            for item in (await self.api.get(path, labelSelector=f"app.kubernetes.io/instance={RELEASE}"))["items"]:
                meta = item["metadata"]
                found.add(f"{path.rpartition('/')[2]}/{meta.get('namespace', '')}/{meta['name']}")
        return found

    async def _listable(self) -> list[str]:
        groups = (await self.api.get("/apis"))["groups"]
        roots = ["/api/v1", *(f"/apis/{item['preferredVersion']['groupVersion']}" for item in groups)]
        return [
            f"{root}/{resource['name']}"
            for root in roots
            for resource in (await self.api.get(root))["resources"]
            if "list" in resource["verbs"] and "/" not in resource["name"]
        ]

    async def pod(self, name: str, pool: str, **spec: Any) -> None:
        """A pod that only this release's NodePool ``pool`` may serve, and that KWOK runs."""
        limits = {"cpu": "100m", "memory": "64Mi"} | ({GPU: "1"} if pool == "gpu" else {})
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "annotations": {"karpenter.sh/do-not-disrupt": "true"}},
            "spec": {
                "nodeSelector": {"karpenter.sh/nodepool": f"{RELEASE}-{pool}"},
                "containers": [{"name": "main", "image": "lab/pause", "resources": {"limits": limits}}],
                "terminationGracePeriodSeconds": 0,
                **spec,
            },
        }
        await self.api.post(core("pods", namespace=NAMESPACE), body)

    async def running(self, name: str, within: float = 40) -> str:
        """Wait for the pod to run and return its node's name."""

        async def bound() -> str | None:
            pod = await self.api.get(core("pods", namespace=NAMESPACE, name=name))
            return str(pod["spec"]["nodeName"]) if pod["status"].get("phase") == "Running" else None

        return str(await eventually(bound, within, f"pod {name} runs"))

    async def pools_ready(self) -> None:
        """Wait until Karpenter finds both NodePools valid; fail with its reason."""
        for pool in (f"{RELEASE}-gpu", f"{RELEASE}-cpu"):
            reasons: list[str] = []

            async def ready(pool: str = pool, reasons: list[str] = reasons) -> bool:
                found = await self.api.get(group(KARPENTER, "nodepools", name=pool))
                conditions = found.get("status", {}).get("conditions", ())
                reasons[:] = [item["message"] for item in conditions if item["status"] == "False"]
                return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)

            try:
                await eventually(ready, 20, f"NodePool {pool} is ready")
            except AssertionError as error:
                raise AssertionError(f"{error}: {reasons}") from None

    async def claims(self) -> list[str]:
        """The names of the NodeClaims of this release's pools."""
        pools = f"karpenter.sh/nodepool in ({RELEASE}-gpu, {RELEASE}-cpu)"
        items = (await self.api.get(group(KARPENTER, "nodeclaims"), labelSelector=pools))["items"]
        return [item["metadata"]["name"] for item in items]

    async def no_claims(self, within: float = 60) -> None:
        async def gone() -> bool:
            return not await self.claims()

        await eventually(gone, within, "the pools' nodes are gone")

    async def remove(self) -> None:
        """Take everything away, whatever the test left."""
        for pod in (await self.api.get(core("pods", namespace=NAMESPACE)))["items"]:
            with contextlib.suppress(NotFound):
                await self.api.delete(core("pods", namespace=NAMESPACE, name=pod["metadata"]["name"]))
        await self.helm("uninstall", "--ignore-not-found")
        # The garbage collector would do it too, half a minute later.
        for claim in await self.claims():
            with contextlib.suppress(NotFound):
                await self.api.delete(group(KARPENTER, "nodeclaims", name=claim))
        await self.no_claims()


@pytest.fixture
async def release(lab: Lab, api: KubeApi) -> AsyncIterator[Release]:
    made = Release(lab, api)
    with contextlib.suppress(NotFound):
        await api.get(core("namespaces", name=NAMESPACE))
        await made.remove()
    await _ensure(api, core("namespaces"), {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "hub"}}
    await _ensure(api, core("serviceaccounts", namespace=NAMESPACE), account)
    yield made
    await made.remove()


async def _ensure(api: KubeApi, path: str, body: Raw) -> None:
    try:
        await api.get(f"{path}/{body['metadata']['name']}")
    except NotFound:
        await api.post(path, body)


async def test_install_as_it_comes_buys_nothing_and_uninstall_leaves_nothing(release: Release, api: KubeApi) -> None:
    pools = {item["metadata"]["name"] for item in (await api.get(group(KARPENTER, "nodepools")))["items"]}
    assert "Nothing was bought" in await release.install()
    installed = await release.labelled()
    assert f"configmaps/{NAMESPACE}/{RELEASE}-settings" in installed
    assert f"roles/default/{NAMESPACE}-{RELEASE}-hub-events" in installed
    # What the cluster itself makes of the Deployment and the Service comes and goes a moment later.
    made_of = {"endpoints", "endpointslices", "pods", "replicasets"}
    assert {name.partition("/")[0] for name in installed} - made_of == {
        "clusterrolebindings",
        "clusterroles",
        "configmaps",
        "deployments",
        "networkpolicies",
        "priorityclasses",
        "rolebindings",
        "roles",
        "secrets",
        "serviceaccounts",
        "services",
    }
    assert {item["metadata"]["name"] for item in (await api.get(group(KARPENTER, "nodepools")))["items"]} == pools
    await release.helm("uninstall")

    async def nothing_left() -> bool:
        return await release.labelled() == set()

    await eventually(nothing_left, 30, "nothing of the release is left")
    kept = (await api.get(core("secrets", namespace=NAMESPACE), labelSelector="owner=helm"))["items"]
    assert kept == []


async def test_lint_runs_as_the_test_pod_under_its_own_account(release: Release, api: KubeApi) -> None:
    await release.install({"settings": {"version": 1}})
    assert "Succeeded" in await release.helm("test")
    with pytest.raises(NotFound):
        await api.get(core("pods", namespace=NAMESPACE, name=f"{RELEASE}-lint"))


async def test_lint_fails_for_a_profile_that_no_machine_can_serve(release: Release, api: KubeApi) -> None:
    huge = {"id": "huge", "display_name": "A10G with 80 GB", "gpu": {"name": "a10g", "memory": ">=80Gi"}}
    await release.install({"settings": {"version": 1, "profiles": [huge]}})
    with pytest.raises(LabError, match="failed"):
        await release.helm("test")
    pod = await api.get(core("pods", namespace=NAMESPACE, name=f"{RELEASE}-lint"))
    assert pod["spec"]["serviceAccountName"] == f"{RELEASE}-test"
    assert pod["status"]["phase"] == "Failed"
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 1


async def test_upgrade_keeps_the_node_pools_generation(release: Release, api: KubeApi) -> None:
    await release.install(POOLS)
    before = await api.get(group(KARPENTER, "nodepools", name=f"{RELEASE}-gpu"))
    await release.helm("upgrade", str(CHART), values=POOLS | {"settings": {"version": 1}, "test": {"create": False}})
    after = await api.get(group(KARPENTER, "nodepools", name=f"{RELEASE}-gpu"))
    assert after["metadata"]["generation"] == before["metadata"]["generation"], "an upgrade alone drifts every node"


async def test_node_pools_serve_tolerated_pods_only(release: Release, api: KubeApi) -> None:
    await release.install(POOLS)
    await release.pools_ready()
    await release.pod("stranger-gpu", "gpu")
    await release.pod("stranger-cpu", "cpu")

    async def refused() -> bool:
        events = (await api.get(core("events", namespace=NAMESPACE)))["items"]
        told = {
            item["involvedObject"]["name"]
            for item in events
            if item["reason"] == "FailedScheduling" and "did not tolerate taint" in item["message"]
        }
        return {"stranger-gpu", "stranger-cpu"} <= told

    await eventually(refused, 30, "Karpenter says that neither pool serves a pod without the toleration")
    assert await release.claims() == []
    await release.pod("guest-gpu", "gpu", tolerations=[GPU_TAINT])
    await release.pod("guest-cpu", "cpu", tolerations=[USER_TAINT])
    gpu_node = await api.get(core("nodes", name=await release.running("guest-gpu")))
    cpu_node = await api.get(core("nodes", name=await release.running("guest-cpu")))
    assert gpu_node["metadata"]["labels"]["karpenter.k8s.aws/instance-gpu-manufacturer"] == "nvidia"
    assert "karpenter.k8s.aws/instance-gpu-count" not in cpu_node["metadata"]["labels"]
    assert GPU not in cpu_node["status"]["allocatable"]
    assert len(await release.claims()) == 2


async def test_uninstall_lets_a_protected_session_end_by_itself(release: Release, api: KubeApi) -> None:
    await release.install(POOLS)
    await release.pod("session", "gpu", tolerations=[GPU_TAINT])
    node = await release.running("session")
    await release.helm("uninstall")

    async def draining() -> bool:
        return "deletionTimestamp" in (await api.get(core("nodes", name=node)))["metadata"]

    await eventually(draining, 30, "Karpenter drains the node")
    pod = await api.get(core("pods", namespace=NAMESPACE, name="session"))
    assert pod["status"]["phase"] == "Running"
    assert "deletionTimestamp" not in pod["metadata"]
    await api.delete(core("pods", namespace=NAMESPACE, name="session"))
    await release.no_claims()


async def test_hub_account_may_do_what_the_chart_grants_and_no_more(lab: Lab, release: Release) -> None:
    await release.install({"rbac": {"annotatePods": True}})
    everywhere = ["/nodes", "/persistentvolumes", "storage.k8s.io/volumeattachments"]
    everywhere += [f"karpenter.sh/{kind}" for kind in ("nodeclaims", "nodepools")]
    granted = {(verb, what, "") for verb in READ for what in everywhere}
    granted |= {(verb, "/events", "default") for verb in READ} | {("patch", "/pods", NAMESPACE)}
    asked = granted | {
        (verb, what, where)
        for verb in (*READ, "create", "update", "patch", "delete")
        for what in (*everywhere, "/events", "/pods", "/secrets", "/configmaps", "karpenter.kwok.sh/kwoknodeclasses")
        for where in ("", "default", NAMESPACE, "kube-system")
    }
    # What may be done in every namespace may be done in each.
    granted |= {(verb, what, where) for verb, what, where in asked if (verb, what, "") in granted}
    async with lab.api(await lab.token_kubeconfig(NAMESPACE, "hub")) as hub:
        allowed = {one for one in sorted(asked) if await _may(hub, *one)}
    assert allowed == granted


async def _may(api: KubeApi, verb: str, what: str, where: str) -> bool:
    name, _, resource = what.rpartition("/")
    attributes = {"verb": verb, "group": name, "resource": resource, "namespace": where}
    review = {
        "apiVersion": AUTHORIZATION,
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = await api.post(group(AUTHORIZATION, "selfsubjectaccessreviews"), review)
    return bool(answer["status"]["allowed"])
