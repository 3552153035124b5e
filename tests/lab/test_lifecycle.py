"""A lab comes up, and whatever ends it, nothing of it is left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_launcher.cluster.paths import core
from gpu_launcher.lab import ports, process
from gpu_launcher.lab.handle import Lab, running_lab
from gpu_launcher.lab.paths import LabError, LabPaths, cache_root
from gpu_launcher.lab.ports import is_free

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

COMMAND = [sys.executable, "-m", "gpu_launcher.cli"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of our own, so that every file a lab writes is seen; only the cache is shared."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_root().parent))
    for variable, name in (("HOME", "home"), ("TMPDIR", "tmp"), ("XDG_STATE_HOME", "state")):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / name))
    return tmp_path


async def run(*arguments: str) -> tuple[int, str]:
    """The status and all output of ``gpu-launcher lab`` with these arguments."""
    running = await asyncio.create_subprocess_exec(
        *COMMAND, "lab", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await running.communicate()
    assert running.returncode is not None
    return running.returncode, output.decode()


async def state_of(name: str) -> dict[str, Any]:
    _, output = await run("status", "--json", "--name", name)
    return dict(json.loads(output))


async def eventually(holds: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
    for _ in range(int(seconds / 0.05)):
        if holds():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


def expect_nothing_left(home: Path, name: str, state: dict[str, Any]) -> None:
    assert list(process.marked(LabPaths.named(name).directory)) == []
    busy = [port for port in state["ports"].values() if not is_free(port)]
    # The next lab on this machine may have the block already; then the ports are its own.
    assert busy == [] or not ports.try_claim(state["block"])
    files = [path for path in home.rglob("*") if path.is_file() or path.is_symlink()]
    assert [path for path in files if LabPaths.named(name).directory not in path.parents] == []


def start_orphan(name: str) -> int:
    """The pid of a process of the lab that no group and no parent ties to it, as a notebook's kernel may be."""
    directory = LabPaths.named(name).directory
    environment = {**os.environ, process.MARKER: str(directory)}
    return subprocess.Popen(["setsid", "--fork", "sleep", "300"], env=environment).wait()


async def test_up_and_down_leave_nothing_behind(home: Path) -> None:
    status, output = await run("up", "--fast", "--name", "one")
    assert status == 0, output
    state = await state_of("one")
    assert state["stage"] == "ready"
    kubeconfig = LabPaths.named("one").kubeconfig
    assert kubeconfig.stat().st_mode & 0o077 == 0
    assert await run("kubeconfig", "--name", "one") == (0, f"{kubeconfig}\n")

    again, words = await run("up", "--name", "one")
    assert again == 0
    assert "runs already" in words

    assert (await run("down", "--name", "one"))[0] == 0
    expect_nothing_left(home, "one", state)
    assert not LabPaths.named("one").directory.exists()
    assert (await state_of("one"))["stage"] == "down"


async def test_after_kill_9_the_next_up_cleans_up(home: Path) -> None:
    await run("up", "--fast", "--name", "killed")
    before = await state_of("killed")
    start_orphan("killed")
    os.kill(before["supervisor"]["pid"], signal.SIGKILL)
    servers = [(item["pid"], item["started"]) for item in before["processes"].values()]
    assert len(servers) == 6
    await eventually(lambda: not any(process.is_alive(*server) for server in servers), "the servers die with it")
    left = list(process.marked(LabPaths.named("killed").directory))
    assert left, "the orphan is what the next `up` must find"
    assert (await state_of("killed"))["stage"] == "down"

    status, output = await run("up", "--fast", "--name", "killed")
    assert status == 0, output
    assert "Cleaned up after a lab that was killed" in output
    assert not any(process.start_time(pid) for pid in left)
    state = await state_of("killed")
    await run("down", "--name", "killed")
    expect_nothing_left(home, "killed", before)
    expect_nothing_left(home, "killed", state)


async def test_two_labs_side_by_side_end_by_sigterm_and_by_a_dead_server(home: Path) -> None:
    async with asyncio.TaskGroup() as group:
        ups = [group.create_task(run("up", "--fast", "--name", name)) for name in ("left", "right")]
    assert [task.result()[0] for task in ups] == [0, 0], [task.result()[1] for task in ups]
    left, right = Lab.attach("left"), Lab.attach("right")
    assert left.block != right.block
    assert not set(left.state["ports"].values()) & set(right.state["ports"].values())
    for lab in (left, right):
        async with lab.api() as api:
            assert [node["metadata"]["name"] for node in (await api.get(core("nodes")))["items"]] == ["lab-system"]

    os.kill(left.state["supervisor"]["pid"], signal.SIGTERM)
    await left.ended()
    expect_nothing_left(home.parent / "none", "left", left.state)

    os.kill(right.state["processes"]["kube-scheduler"]["pid"], signal.SIGKILL)
    with pytest.raises(LabError, match=r"kube-scheduler was killed by SIGKILL: see .*/logs/kube-scheduler\.log"):
        await right.ended()
    expect_nothing_left(home.parent / "none", "right", right.state)
    status, words = await run("status", "--name", "right")
    assert status == 1
    assert "kube-scheduler.log" in words
    await run("down", "--all")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_start_that_is_interrupted_leaves_nothing(home: Path, number: signal.Signals) -> None:
    up = await asyncio.create_subprocess_exec(*COMMAND, "lab", "up", "--name", "early", stderr=subprocess.DEVNULL)
    directory = LabPaths.named("early").directory
    await eventually(lambda: len(list(process.marked(directory))) >= 2, "etcd and the API server start")
    up.send_signal(number)
    assert await up.wait() != 0
    assert list(process.marked(directory)) == []
    assert (await state_of("early"))["stage"] != "ready"


async def test_a_lab_of_a_program_ends_with_it(home: Path) -> None:
    program = (
        "import asyncio\nfrom gpu_launcher.lab.handle import running_lab\n"
        "async def main():\n    async with running_lab(name='bound'):\n        print('ready', flush=True)\n"
        "        await asyncio.sleep(300)\nasyncio.run(main())"
    )
    running = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
    assert running.stdout is not None
    assert await running.stdout.readline() == b"ready\n"
    state = await state_of("bound")
    running.kill()
    await running.wait()
    supervisor = state["supervisor"]
    await eventually(lambda: not process.is_alive(supervisor["pid"], supervisor["started"]), "the supervisor ends")
    expect_nothing_left(home.parent / "none", "bound", state)


async def test_a_service_account_has_its_own_rights_only(lab: Lab) -> None:
    from gpu_launcher.cluster.errors import Forbidden

    kubeconfig = await lab.token_kubeconfig("default", "default")
    async with lab.api(kubeconfig) as api:
        with pytest.raises(Forbidden):
            await api.get(core("pods", namespace="default"))


async def test_the_labs_helm_sees_its_cluster_only(lab: Lab) -> None:
    assert json.loads(await lab.helm("list", "--all-namespaces", "--output", "json")) is not None
    with pytest.raises(LabError, match="helm uninstall"):
        await lab.helm("uninstall", "never-installed")


async def test_a_running_lab_is_refused_a_second_time(home: Path) -> None:
    async with running_lab(name="twice"):
        with pytest.raises(LabError, match="runs already"):
            async with running_lab(name="twice"):
                pass
