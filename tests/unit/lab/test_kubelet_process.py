"""Which program a container runs on this machine, and in which environment."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from gpu_launcher.lab.kubelet.environment import ConfigError, container_environment, field_value
from gpu_launcher.lab.kubelet.process import StartError, StubServer, base_environment, interpreter, resolve

POD = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a/b": "c"}, "annotations": {"x": "y"}},
    "spec": {"nodeName": "node", "serviceAccountName": "hub"},
}


def test_python_is_the_images_interpreter() -> None:
    python = Path(sys.executable)
    assert resolve(["python3", "-V"], python, root=False) == [sys.executable, "-V"]
    assert interpreter({}) == python
    assert interpreter({"gpu-launcher-lab/python": "/x/bin/python"}) == Path("/x/bin/python")


def test_programs_beside_the_interpreter_come_first(tmp_path: Path) -> None:
    (tmp_path / "jupyterhub-singleuser").touch()
    found = resolve(["/opt/conda/bin/jupyterhub-singleuser"], tmp_path / "python", root=False)
    assert found == [str(tmp_path / "jupyterhub-singleuser")]
    started = resolve(["start-singleuser.sh", "--x"], tmp_path / "python", root=True)
    assert started == [str(tmp_path / "jupyterhub-singleuser"), "--x", "--allow-root"]


def test_the_system_comes_next_and_a_missing_program_is_the_runtimes_error(tmp_path: Path) -> None:
    assert resolve(["/bin/sh", "-c", "true"], tmp_path / "python", root=True) == ["/bin/sh", "-c", "true"]
    with pytest.raises(StartError, match=r'exec: "nothing-such": executable file not found in \$PATH'):
        resolve(["nothing-such"], tmp_path / "python", root=False)


def test_nothing_of_our_own_environment_leaks_into_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_LAB", "x")
    env = base_environment(Path("/v/bin/python"), Path("/h"), Path("/t"), "p")
    assert env.keys() == {"PATH", "LANG", "HOME", "TMPDIR", "HOSTNAME"}
    assert env["PATH"].startswith("/v/bin:")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"),
        ("metadata.labels['a/b']", "c"),
        ("metadata.annotations['x']", "y"),
        ("metadata.annotations['missing']", ""),
        ("metadata.annotations", 'x="y"'),
        ("spec.serviceAccountName", "hub"),
        ("status.podIP", "127.1.1.1"),
    ],
)
def test_fields(path: str, value: str) -> None:
    assert field_value(POD, path, pod_ip="127.1.1.1", host_ip="10.0.0.1") == value


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(ConfigError, match=r"unsupported fieldPath: spec\.x"):
        field_value(POD, "spec.x", pod_ip="", host_ip="")


async def test_variables_build_on_earlier_ones_and_on_resources() -> None:
    container = {
        "resources": {"limits": {"cpu": "1500m", "memory": "2Gi"}},
        "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)$(LATER)"},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "MIB", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
    }
    env = await container_environment(None, POD, container, pod_ip="", host_ip="")
    assert env == {"A": "1", "B": "1$(LATER)", "CPU": "2", "MIB": "2048", "NODE": "node"}


async def test_a_stub_answers_and_ends_like_a_server() -> None:
    stub = await StubServer.listen("127.0.0.1", 0)
    port = stub.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /user/ann/api HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()
    given_up = asyncio.create_task(stub.wait())
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.sleep(0)
    stub.signal(signal.SIGTERM)
    assert await stub.wait() == 0
    killed = await StubServer.listen("127.0.0.1", 0)
    killed.signal(signal.SIGKILL)
    assert await killed.wait() == 137


async def test_a_slow_stub_runs_before_it_answers_and_may_end_before() -> None:
    slow = await StubServer.listen("127.0.0.1", 0, after_s=0.01)
    assert slow.port == 0
    await slow._began
    assert slow.port
    slow.signal(signal.SIGTERM)
    assert await slow.wait() == 0
    ended = await StubServer.listen("127.0.0.1", 0, after_s=60)
    ended.signal(signal.SIGTERM)
    assert await ended.wait() == 0
    assert ended.port == 0
