"""The stand-in kubelet on the real control plane: pods are processes, and live and end as pods do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gpu_launcher.cluster.api import KubeApi, Raw
from gpu_launcher.cluster.paths import core, group
from gpu_launcher.lab.handle import Lab
from gpu_launcher.lab.images import parse_image
from kubelets import Pods, namespace, node, pod
from provisioning import eventually

pytestmark = pytest.mark.lab

SYSTEM = "lab-system"


@pytest.fixture
async def pods(api: KubeApi) -> AsyncIterator[Pods]:
    async with namespace(api) as name:
        yield Pods(api, name)


@pytest.fixture(autouse=True)
def no_faults(lab: Lab) -> Any:
    yield
    lab.faults.clear()


def directory(lab: Lab, raw: Raw) -> Path:
    meta = raw["metadata"]
    return lab.paths.pods / f"{meta['namespace']}_{meta['name']}_{meta['uid']}"


def log(lab: Lab, raw: Raw) -> str:
    return (directory(lab, raw) / "main.log").read_text()


def condition(raw: Raw, kind: str) -> str:
    return next(item["status"] for item in raw["status"]["conditions"] if item["type"] == kind)


def processes(uid: str) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if uid.encode() in environment:
            found.append(int(entry.name))
    return found


PROBE = r"""
import asyncio, json, os, pathlib
from gpu_launcher.cluster.api import KubeApi
from gpu_launcher.cluster.errors import Forbidden

async def main():
    async with await KubeApi.connect() as api:
        who = await api.post("/apis/authentication.k8s.io/v1/selfsubjectreviews",
                             {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
        try:
            await api.get("/api/v1/secrets")
            may = True
        except Forbidden:
            may = False
    keys = ("NODE", "PASSWORD", "GREETING", "JOINED", "HOME", "GPU_LAUNCHER_LAB_SECRET")
    files = {str(path.relative_to("/etc/app")): path.read_text() for path in pathlib.Path("/etc/app").rglob("*.txt")}
    print(json.dumps({"who": who["status"]["userInfo"]["username"], "may": may, "files": files,
                      "cwd": os.getcwd(), "env": {key: os.environ.get(key) for key in keys}}))

asyncio.run(main())
"""


async def test_a_pod_gets_its_own_identity_environment_and_files(lab: Lab, api: KubeApi, pods: Pods) -> None:
    where = pods.namespace
    await api.post(core("secrets", namespace=where), {"metadata": {"name": "s"}, "stringData": {"password": "pw"}})
    data = {"greeting": "hello", "a.txt": "content", "b.txt": "other"}
    await api.post(core("configmaps", namespace=where), {"metadata": {"name": "c"}, "data": data})
    body = pod(
        "probe",
        SYSTEM,
        "",
        command=["python", "-c", PROBE],
        workingDir="/home/jovyan",
        env=[
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
            {"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "greeting"}}},
            {"name": "JOINED", "value": "$(GREETING), $(NODE)"},
        ],
        volumeMounts=[
            {"name": "home", "mountPath": "/home/jovyan"},
            {"name": "config", "mountPath": "/etc/app"},
        ],
        spec={
            "volumes": [
                {"name": "home", "emptyDir": {}},
                {"name": "config", "configMap": {"name": "c", "items": [{"key": "a.txt", "path": "sub/a.txt"}]}},
            ]
        },
    )
    raw = await pods.create(body)
    await pods.phase("probe", "Succeeded")
    said = json.loads(log(lab, raw).splitlines()[-1])
    assert said["who"] == f"system:serviceaccount:{where}:default"
    assert said["may"] is False
    assert said["files"] == {"sub/a.txt": "content"}
    assert said["env"] | {"HOME": None} == {
        "NODE": SYSTEM,
        "PASSWORD": "pw",
        "GREETING": "hello",
        "JOINED": f"hello, {SYSTEM}",
        "HOME": None,
        "GPU_LAUNCHER_LAB_SECRET": None,
    }
    assert said["cwd"] == said["env"]["HOME"] == str(directory(lab, raw) / "volumes" / "home")


async def test_a_pod_is_pulled_created_started_and_ready_at_once(api: KubeApi, pods: Pods) -> None:
    async with node(api) as own:
        await pods.create(pod("first", own, "sleep 60", image="quay.io/lab/big:1"))
        raw = await pods.phase("first", "Running")
        await pods.told("first", "Pulling", "Pulled", "Created", "Started")
        kinds = ("PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready")
        assert {condition(raw, kind) for kind in kinds} == {"True"}
        assert raw["status"]["podIP"].startswith("127.")
        # Cached on this node from now on, and listed as a real node lists it.
        await pods.create(pod("second", own, "true", image="quay.io/lab/big:1"))
        await pods.phase("second", "Succeeded")
        await pods.told("second", "Pulled", "Started")
        assert "Pulling" not in await pods.events("second")
        images = (await api.get(core("nodes", name=own)))["status"]["images"]
        assert images[0]["names"] == list(parse_image("quay.io/lab/big:1").names)


async def test_a_deleted_pod_gets_sigterm_and_its_grace(lab: Lab, pods: Pods) -> None:
    script = "trap 'echo saved; exit 0' TERM; while true; do sleep 0.1; done"
    raw = await pods.create(pod("polite", SYSTEM, script))
    await pods.phase("polite", "Running")
    await pods.delete("polite", within=10)
    await pods.told("polite", "Killing")
    assert "saved" in log(lab, raw)
    assert processes(raw["metadata"]["uid"]) == []


async def test_a_pod_that_ignores_sigterm_is_killed_with_all_it_started(pods: Pods) -> None:
    # setsid leaves the process group, as Jupyter's kernels do.
    script = "trap '' TERM; setsid sleep 300 & while true; do sleep 0.1; done"
    raw = await pods.create(pod("stubborn", SYSTEM, script, spec={"terminationGracePeriodSeconds": 1}))
    await pods.phase("stubborn", "Running")
    assert len(processes(raw["metadata"]["uid"])) >= 2
    await pods.delete("stubborn", within=10)
    assert processes(raw["metadata"]["uid"]) == []


async def test_pre_stop_runs_before_sigterm(lab: Lab, pods: Pods) -> None:
    hook = {"preStop": {"exec": {"command": ["/bin/sh", "-c", "echo hook"]}}}
    script = "trap 'echo term; exit 0' TERM; while true; do sleep 0.1; done"
    raw = await pods.create(pod("hooked", SYSTEM, script, lifecycle=hook))
    await pods.phase("hooked", "Running")
    await pods.delete("hooked", within=10)
    # The shell may say a word of its own about the child that the group's signal ended.
    assert [line for line in log(lab, raw).split() if line in ("hook", "term")] == ["hook", "term"]


async def test_init_containers_come_first_and_a_failure_ends_the_pod(lab: Lab, pods: Pods) -> None:
    def init(script: str) -> dict[str, Any]:
        return {"initContainers": [{"name": "init", "image": "lab/init", "command": ["/bin/sh", "-c", script]}]}

    raw = await pods.create(pod("fine", SYSTEM, "true", spec=init("echo ready")))
    await pods.create(pod("bad", SYSTEM, "true", spec=init("exit 3")))
    await pods.phase("fine", "Succeeded")
    assert (directory(lab, raw) / "init.log").read_text() == "ready\n"
    failed = await pods.phase("bad", "Failed")
    assert failed["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 3


async def test_a_crashing_container_is_started_again_with_back_off(pods: Pods) -> None:
    await pods.create(pod("crash", SYSTEM, "exit 7", spec={"restartPolicy": "OnFailure"}))
    status = await pods.waiting("crash", "CrashLoopBackOff")
    assert status["lastState"]["terminated"]["exitCode"] == 7
    assert status["restartCount"] == 1
    assert "back-off 10s restarting failed container=main" in status["state"]["waiting"]["message"]
    await pods.told("crash", "BackOff")


async def test_a_program_that_is_not_there_and_a_secret_that_comes_late(api: KubeApi, pods: Pods) -> None:
    await pods.create(pod("nothing", SYSTEM, "", command=["no-such-program"]))
    failed = await pods.phase("nothing", "Failed")
    ended = failed["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("StartError", 128)
    env = [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "late", "key": "x"}}}]
    await pods.create(pod("waits", SYSTEM, "true", env=env))
    await pods.waiting("waits", "CreateContainerConfigError")
    await api.post(core("secrets", namespace=pods.namespace), {"metadata": {"name": "late"}, "stringData": {"x": "1"}})
    await pods.phase("waits", "Succeeded")


async def test_a_readiness_probe_is_honoured(pods: Pods) -> None:
    probe = {"httpGet": {"path": "/", "port": 8888}, "periodSeconds": 1}
    await pods.create(pod("probed", SYSTEM, "", command=["python", "-c", PROBED], readinessProbe=probe))
    assert condition(await pods.phase("probed", "Running"), "Ready") == "False"

    async def ready() -> bool:
        return condition(await pods.get("probed"), "Ready") == "True"

    await eventually(ready, 20, "the probe succeeds")


PROBED = """
import http.server, time
time.sleep(1.5)
http.server.HTTPServer(("0.0.0.0", 8888), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


async def test_image_not_found_until_it_is(lab: Lab, pods: Pods) -> None:
    lab.faults.pod("image_not_found", image="*/typo:*", pod="typo*")
    await pods.create(pod("typo", SYSTEM, "true", image="quay.io/lab/typo:1"))
    status = await pods.waiting("typo", "ImagePullBackOff")
    assert "not found" in status["state"]["waiting"]["message"]
    await pods.told("typo", "Pulling", "Failed", "BackOff")
    lab.faults.clear()
    await pods.phase("typo", "Succeeded")


async def test_admission_error(lab: Lab, pods: Pods) -> None:
    lab.faults.pod("admission_error", pod="refused*")
    await pods.create(pod("refused", SYSTEM, "true"))
    raw = await pods.phase("refused", "Failed")
    assert raw["status"]["reason"] == "UnexpectedAdmissionError"
    await pods.told("refused", "UnexpectedAdmissionError")
    await pods.delete("refused")


async def test_crash_before_and_after_ready(lab: Lab, pods: Pods) -> None:
    lab.faults.pod("crash_before_ready", pod="early*")
    lab.faults.pod("crash_after_ready", pod="late*")
    for name in ("early", "late"):
        await pods.create(pod(name, SYSTEM, "sleep 60", spec={"restartPolicy": "OnFailure"}))
    early = await pods.waiting("early", "CrashLoopBackOff")
    assert early["lastState"]["terminated"]["exitCode"] == 1
    await pods.phase("late", "Running")
    late = await pods.waiting("late", "CrashLoopBackOff")
    assert late["lastState"]["terminated"]["exitCode"] == 137


async def test_k17_eviction_under_disk_pressure(lab: Lab, api: KubeApi, pods: Pods) -> None:
    async with node(api) as own:
        raw = await pods.create(pod("evicted", own, "sleep 60"))
        await pods.phase("evicted", "Running")
        lab.faults.pod("evict", pod="evicted*")
        failed = await pods.phase("evicted", "Failed")
        assert failed["status"]["reason"] == "Evicted"
        assert "ephemeral-storage" in failed["status"]["message"]
        await pods.told("evicted", "Evicted")
        await _under_pressure(api, own)
        assert processes(raw["metadata"]["uid"]) == []


async def test_k17_an_image_that_does_not_fit_evicts_its_pod(api: KubeApi, pods: Pods) -> None:
    async with node(api, disk="1Gi") as own:
        await pods.create(pod("large", own, "true"))
        failed = await pods.phase("large", "Failed")
        assert failed["status"]["reason"] == "Evicted"
        await _under_pressure(api, own)


async def test_k17_a_pod_that_writes_more_than_its_limit_is_evicted(pods: Pods) -> None:
    limit = {"limits": {"ephemeral-storage": "1Mi"}}
    await pods.create(pod("greedy", SYSTEM, "head -c 3000000 /dev/urandom > $HOME/file; sleep 60", resources=limit))
    await pods.create(pod("frugal", SYSTEM, "echo > $HOME/file; sleep 60", resources=limit))
    failed = await pods.phase("greedy", "Failed")
    assert failed["status"]["reason"] == "Evicted"
    assert "exceeds the total limit of containers 1Mi" in failed["status"]["message"]
    assert (await pods.get("frugal"))["status"]["phase"] == "Running"
    await pods.delete("frugal")


async def _under_pressure(api: KubeApi, name: str) -> None:
    async def pressed() -> bool:
        return condition(await api.get(core("nodes", name=name)), "DiskPressure") == "True"

    await eventually(pressed, 10, f"node {name} reports DiskPressure")


async def test_gpus_are_advertised_after_ready_unless_the_plugin_is_silent(lab: Lab, api: KubeApi) -> None:
    labels = {"karpenter.k8s.aws/instance-gpu-count": "4", "node.kubernetes.io/instance-type": "test.silent"}
    lab.faults.gpu_never_advertised("test.*")
    async with node(api, labels) as own:

        async def gpus() -> str | None:
            found = (await api.get(core("nodes", name=own)))["status"]
            return str(found["allocatable"].get("nvidia.com/gpu", "")) or None

        assert await gpus() is None
        lab.faults.clear()
        assert await eventually(gpus, 10, "GPUs are advertised") == "4"


async def test_a_lost_node_kills_its_processes(api: KubeApi, pods: Pods) -> None:
    async with node(api) as own:
        raw = await pods.create(pod("orphan", own, "sleep 60"))
        await pods.phase("orphan", "Running")
    uid = raw["metadata"]["uid"]

    async def dead() -> bool:
        return not processes(uid)

    await eventually(dead, 10, "the processes of the lost node are gone")
    # The object is left to the control plane, as in life.
    assert (await pods.get("orphan"))["status"]["phase"] == "Running"
    await pods.delete("orphan", gracePeriodSeconds=0)


async def test_a_daemon_set_takes_its_share_of_a_node_and_brings_its_image(api: KubeApi, pods: Pods) -> None:
    async with node(api) as own:
        labels = {"daemon": "yes"}
        container = {"name": "main", "image": "quay.io/lab/agent:1", "resources": {"requests": {"cpu": "7"}}}
        template = {
            "metadata": {"labels": labels},
            "spec": {
                "nodeSelector": {"kubernetes.io/hostname": own},
                "tolerations": [{"operator": "Exists"}],
                "containers": [container],
            },
        }
        body = {"metadata": {"name": "agent"}, "spec": {"selector": {"matchLabels": labels}, "template": template}}
        await api.post(group("apps/v1", "daemonsets", namespace=pods.namespace), body)

        async def running() -> bool:
            found = await api.get(group("apps/v1", "daemonsets", namespace=pods.namespace, name="agent"))
            return bool(found["status"].get("numberReady") == 1)

        await eventually(running, 30, "the DaemonSet's pod is ready")
        late = pod("late", own, "true", resources={"requests": {"cpu": "2"}})
        del late["spec"]["nodeName"]
        late["spec"] |= {"nodeSelector": {"kubernetes.io/hostname": own}, "tolerations": [{"operator": "Exists"}]}
        await pods.create(late)
        await pods.told("late", "FailedScheduling")

        async def listed() -> bool:
            images = (await api.get(core("nodes", name=own)))["status"].get("images") or ()
            return any("quay.io/lab/agent:1" in item["names"] for item in images)

        await eventually(listed, 10, "the DaemonSet's image is on the node")
