"""Plain KubeSpawner on the lab: what the stand-in kubelet must do for any hub."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from browsers import logged_in
from gpu_launcher.cluster.api import KubeApi
from gpu_launcher.cluster.errors import NotFound
from gpu_launcher.cluster.paths import core, group
from gpu_launcher.lab.handle import Lab
from gpu_launcher.lab.hub import Hub, start_hub
from gpu_launcher.lab.paths import LabError
from provisioning import Pool, eventually

pytestmark = pytest.mark.lab

NAMESPACE = "plain"
CONFIG = """
c.JupyterHub.allow_named_servers = True
c.KubeSpawner.node_selector = {"karpenter.sh/nodepool": "plain"}
c.KubeSpawner.tolerations = [{"operator": "Exists"}]
c.KubeSpawner.extra_resource_limits = {"nvidia.com/gpu": "1"}
c.KubeSpawner.extra_resource_guarantees = {"nvidia.com/gpu": "1"}
c.KubeSpawner.environment = {"WHERE": "/home/jovyan/here"}
"""


@pytest.fixture(scope="module")
async def hub(lab: Lab, api: KubeApi) -> AsyncIterator[Hub]:
    pool = Pool(api, "plain")
    await pool.create(["g4dn.xlarge"], ["on-demand"], "1s")
    started = await start_hub(lab, NAMESPACE, CONFIG)
    yield started
    await started.stop()
    await pool.remove()


async def execute(hub: Hub, url: str, code: str) -> str:
    """What a new kernel of a server prints, through the proxy and the websocket."""
    headers = {"Authorization": f"token {hub.token}"}
    message = {
        "channel": "shell",
        "header": {"msg_id": uuid4().hex, "msg_type": "execute_request", "session": "s", "username": "", "date": ""},
        "parent_header": {},
        "metadata": {},
        "content": {"code": code, "silent": False},
    }
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.post(f"{url}api/kernels", json={}) as response:
            kernel = await response.json()
        async with session.ws_connect(f"{url}api/kernels/{kernel['id']}/channels") as socket:
            await socket.send_json(message)
            async for received in socket:
                answer = json.loads(received.data)
                if answer["header"]["msg_type"] == "stream":
                    return str(answer["content"]["text"])
    raise AssertionError("the kernel said nothing")


def processes(uid: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if uid.encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return found


@pytest.mark.parametrize("user", ["ann", "admin"])
async def test_only_who_knows_the_password_logs_in(hub: Hub, user: str) -> None:
    for password, status in (("guess", 302), ("", 302), (hub.password, 200)):
        async with logged_in(hub.url, user, password) as browser:
            assert (await browser.get("/hub/home"))[0] == status


async def test_a_notebook_runs_and_ends_with_its_pod(lab: Lab, api: KubeApi, hub: Hub) -> None:
    url = await hub.start_server("ann")
    raw = await api.get(core("pods", namespace=NAMESPACE, name="jupyter-ann"))
    node = await api.get(core("nodes", name=raw["spec"]["nodeName"]))
    assert node["metadata"]["labels"]["karpenter.sh/nodepool"] == "plain"
    said = await execute(hub, url, "import os; print(6*7, os.environ['WHERE'], os.getcwd())")
    answer, where, directory = said.split()
    assert answer == "42"
    assert where == f"{directory}/here"
    assert Path(directory).parent == lab.paths.volumes
    uid = raw["metadata"]["uid"]
    assert any("ipykernel" in line for line in processes(uid))
    await hub.stop_server("ann")

    async def ended() -> bool:
        return not processes(uid)

    await eventually(ended, 20, "every process of the pod is gone")
    with pytest.raises(NotFound):
        await api.get(core("pods", namespace=NAMESPACE, name="jupyter-ann"))


async def test_stub_servers_start_together(api: KubeApi, hub: Hub) -> None:
    # No processes: what is left is the hub's, the control plane's and the kubelet's own time.
    config = CONFIG + 'c.KubeSpawner.extra_annotations = {"gpu-launcher-lab/server": "stub"}\n'
    config += "c.KubeSpawner.extra_resource_limits = c.KubeSpawner.extra_resource_guarantees = {}\n"
    config += "c.KubeSpawner.storage_pvc_ensure = False\nc.KubeSpawner.volumes = c.KubeSpawner.volume_mounts = []\n"
    config += 'c.KubeSpawner.node_selector = {"gpu-launcher-lab/system": "true"}\n'
    stubs = await start_hub(hub.lab, NAMESPACE, config)
    url = await stubs.start_server("stub", timeout_s=60)
    async with aiohttp.ClientSession() as session, session.get(f"{url}api") as response:
        assert response.status == 200
    await stubs.stop_server("stub")
    await start_hub(hub.lab, NAMESPACE, CONFIG)


async def test_a_hub_forgets_nothing_over_a_restart_and_a_kill(hub: Hub) -> None:
    await hub.start_server("ben", "second")
    await hub.restart()
    assert "second" in (await hub.api("users/ben"))["servers"]
    await hub.kill9()
    user: dict[str, Any] = await hub.api("users/ben")
    assert user["servers"]["second"]["ready"]
    await hub.stop_server("ben", "second")


async def test_a_role_without_a_verb_fails_the_start(api: KubeApi, hub: Hub) -> None:
    path = group("rbac.authorization.k8s.io/v1", "roles", namespace=NAMESPACE, name="hub")
    role = await api.get(path)
    first = role["rules"][0]
    verbs = [verb for verb in first["verbs"] if verb != "create"]
    try:
        await api.patch(path, {"rules": [first | {"verbs": verbs}, *role["rules"][1:]]})
        with pytest.raises(LabError, match=r"500|did not start"):
            await hub.start_server("cleo", timeout_s=60)
        assert "cannot create resource" in hub.log.read_text()
    finally:
        await api.patch(path, {"rules": role["rules"]})
