"""Starting, finding and describing labs, whatever other programs and other versions left behind."""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from gpu_launcher.cli.lab import guarded
from gpu_launcher.lab import handle, process
from gpu_launcher.lab.demo import demo
from gpu_launcher.lab.handle import all_labs, running_state
from gpu_launcher.lab.paths import LabError, LabPaths
from gpu_launcher.lab.settings import LabSettings


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabPaths:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    paths = LabPaths.named("one")
    paths.create()
    return paths


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"supervisor": 7}', '{"supervisor": {"pid": 1}, "stage": "ready"}', "\udcff"]
)
def test_a_state_that_says_nothing_is_no_running_lab(paths: LabPaths, text: str) -> None:
    paths.state.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert running_state(paths) is None


def test_the_state_of_a_living_supervisor_counts(paths: LabPaths) -> None:
    supervisor = {"pid": os.getpid(), "started": process.start_time(os.getpid())}
    paths.state.write_text(json.dumps({"supervisor": supervisor, "stage": "ready"}))
    (paths.directory.parent / "Not a lab").mkdir()
    assert [(found.name, state is not None) for found, state in all_labs()] == [("one", True)]
    paths.state.write_text(json.dumps({"supervisor": supervisor | {"started": 1}, "stage": "ready"}))
    assert running_state(paths) is None


async def test_a_supervisor_that_said_nothing_yet_ends_with_a_start_that_is_cancelled(
    paths: LabPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def sleeper(_: list[str], **options: object) -> subprocess.Popen[bytes]:
        started.append(real(["sleep", "60"], start_new_session=True))
        return started[0]

    real = subprocess.Popen
    monkeypatch.setattr(handle.subprocess, "Popen", sleeper)
    monkeypatch.setattr(handle, "_POLL_S", 0.001)
    launch = asyncio.create_task(handle._launch(paths, LabSettings.fast(), bound=False, say=None))
    while not started:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    launch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await launch
    assert started[0].returncode is not None


@pytest.mark.parametrize("port", [0, 70000])
async def test_a_port_for_the_demo_that_cannot_be_had_is_refused_first(port: int) -> None:
    with pytest.raises(LabError, match=f"--port {port}.*choose another"):
        async with demo(LabSettings.fast(), port=port):
            pass


def test_a_full_disk_comes_with_a_remedy(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # The tests' own signal handlers stay.
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def fail(_: argparse.Namespace) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "lab.json")

    assert guarded(fail)(argparse.Namespace()) == 1
    assert "lab.json'; make room" in capsys.readouterr().err
