"""Processes of a lab do not outlive it, and those that do are found."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from gpu_launcher.lab import process

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


async def until_it_speaks(child: process.Child) -> None:
    while not process.tail(child.log):  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(0.001)


async def test_a_child_has_a_log_a_marker_and_a_group_of_its_own(tmp_path: Path) -> None:
    child = await process.start(
        ["sh", "-c", "echo $GPU_LAUNCHER_LAB; exit 3"], log=tmp_path / "a.log", lab=tmp_path, env=ENVIRONMENT
    )
    assert await child.wait() == 3
    assert child.name == "a"
    assert process.tail(tmp_path / "a.log") == [str(tmp_path)]


async def test_stop_ends_the_whole_group_also_what_ignores_sigterm(tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 60 & echo up; while :; do sleep 0.01; done"
    child = await process.start(["sh", "-c", script], log=tmp_path / "a.log", lab=tmp_path, env=ENVIRONMENT)
    await until_it_speaks(child)
    assert await child.stop(grace_s=0.01) == -signal.SIGKILL
    assert process.clean(tmp_path) <= 1
    assert list(process.marked(tmp_path)) == []


async def test_stop_gives_grace(tmp_path: Path) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.001; done"
    child = await process.start(["sh", "-c", script], log=tmp_path / "a.log", lab=tmp_path, env=ENVIRONMENT)
    await until_it_speaks(child)
    assert await child.stop(grace_s=5) == 0
    assert process.tail(child.log)[-1] == "bye"


def test_leftovers_are_found_by_their_marker_and_only_those_of_this_lab(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "mine-too"
    started = {
        lab: subprocess.Popen(["sleep", "60"], env={**ENVIRONMENT, process.MARKER: str(lab)}) for lab in (mine, other)
    }
    assert list(process.marked(mine)) == [started[mine].pid]
    assert process.clean(mine) == 1
    assert started[mine].wait() == -signal.SIGKILL
    assert started[other].poll() is None
    assert process.clean(other) == 1
    started[other].wait()
    assert process.clean(other) == 0


def test_a_process_dies_with_the_one_that_started_it() -> None:
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        started = subprocess.Popen(["sleep", "60"], preexec_fn=process.die_with_parent())
        os.write(writing, str(started.pid).encode())
        os._exit(0)
    os.waitpid(parent, 0)
    child = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    deadline = time.monotonic() + 5
    while process.start_time(child) is not None and time.monotonic() < deadline:
        time.sleep(0.001)
    assert process.start_time(child) is None


def test_a_process_whose_starter_is_gone_already_ends_before_it_runs(tmp_path: Path) -> None:
    first = process.die_with_parent()
    between = os.fork()
    if between == 0:
        # As seen by this process's child, the process that said `first` is not its parent any more.
        started = subprocess.Popen(["touch", str(tmp_path / "ran")], preexec_fn=first)
        os._exit(0 if started.wait() == -signal.SIGKILL else 1)
    assert os.waitpid(between, 0)[1] == 0
    assert not (tmp_path / "ran").exists()


def test_a_pid_and_its_start_time_name_one_process() -> None:
    own = process.start_time(os.getpid())
    assert own is not None
    assert process.is_alive(os.getpid(), own)
    assert not process.is_alive(os.getpid(), own + 1)
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert process.start_time(ended.pid) is None


def test_hints_name_the_log_and_show_its_end(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert process.hint(log) == f"see {log} (it is empty)"
    log.write_text("\n".join(f"line {number}" for number in range(100)))
    assert process.hint(log, 2) == f"see {log}; its last lines:\n  | line 98\n  | line 99"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe broken\n", b"x" * 200_000])
def test_any_log_has_a_tail(tmp_path: Path, content: bytes) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(content)
    assert len(process.tail(log)) <= 1
