"""A container as a real process of this machine, or as a stub where a benchmark only needs an address that answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from gpu_launcher.lab import process

POD_MARKER = "GPU_LAUNCHER_LAB_POD"
"""Carried by all processes of a pod, so that those which leave its process group (kernels do) end with it."""

# What runs a notebook in common images, under names that only exist inside them.
_ALIASES = {"start-notebook.sh": "jupyterhub-singleuser", "start-singleuser.sh": "jupyterhub-singleuser"}
_ALIASES |= {"start-notebook.py": "jupyterhub-singleuser", "start-singleuser.py": "jupyterhub-singleuser"}
_REFUSES_ROOT = ("jupyterhub-singleuser", "jupyter-lab", "jupyter-notebook", "jupyter-labhub")


class StartError(Exception):
    """The program cannot be started; the message is a container runtime's."""


class Started(Protocol):
    """A running container."""

    @property
    def pid(self) -> int | None: ...

    async def wait(self) -> int: ...

    def signal(self, number: signal.Signals) -> None: ...


def resolve(words: Sequence[str], python: Path, *, root: bool) -> list[str]:
    """The command line on this machine: the image's programs are looked up beside `python`, then on the system.

    Notebook servers refuse to run as root unless told; in a container of the same image they would not be root.
    """
    name = words[0].rpartition("/")[2]
    name = _ALIASES.get(name, name)
    if name in ("python", "python3"):
        program: str | None = str(python)
    elif (python.parent / name).exists():
        program = str(python.parent / name)
    else:
        program = shutil.which(words[0], path="/usr/local/bin:/usr/bin:/bin")
    if program is None:
        raise StartError(f'exec: "{words[0]}": executable file not found in $PATH')
    found = [program, *words[1:]]
    if root and name in _REFUSES_ROOT and "--allow-root" not in found:
        found.append("--allow-root")
    return found


def base_environment(python: Path, home: Path, tmp: Path, hostname: str) -> dict[str, str]:
    """What an image would bring: nothing of the lab's own environment leaks into a pod."""
    return {
        "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "TMPDIR": str(tmp),
        "HOSTNAME": hostname,
    }


def interpreter(annotations: Mapping[str, str], default: str = sys.executable) -> Path:
    """The interpreter that stands for the pod's image."""
    return Path(annotations.get("gpu-launcher-lab/python") or default)


class ChildProcess:
    """A container that runs as a process group of its own."""

    def __init__(self, child: process.Child) -> None:
        self._child = child

    @property
    def pid(self) -> int | None:
        return self._child.pid

    async def wait(self) -> int:
        """The exit code as a container runtime gives it: 128 + n for signal n."""
        code = await self._child.wait()
        return 128 - code if code < 0 else code

    def signal(self, number: signal.Signals) -> None:
        process.signal_group(self._child.pid, number)


async def start(
    words: Sequence[str], *, mark: str, env: Mapping[str, str], cwd: Path, log: Path, lab: Path
) -> ChildProcess:
    """The started process of a container. Raises `StartError`."""
    try:
        child = await process.start(words, log=log, lab=lab, env={**env, POD_MARKER: mark}, cwd=cwd)
    except OSError as error:
        raise StartError(f'exec: "{words[0]}": {error.strerror}') from error
    return ChildProcess(child)


def kill_rest(mark: str) -> int:
    """The number of processes that still carried `mark` and were killed; a pod's uid stands for all its containers."""
    wanted = f"{POD_MARKER}={mark}".encode()
    killed = 0
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            environment = Path(f"/proc/{entry}/environ").read_bytes()
        except OSError:
            continue
        if any(item == wanted or item.startswith(wanted + b"/") for item in environment.split(b"\0")):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(entry), signal.SIGKILL)
                killed += 1
    return killed


class StubServer:
    """A notebook server that only answers: no process, so that hundreds start at once on a small machine."""

    pid = None

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @classmethod
    async def listen(cls, ip: str, port: int) -> StubServer:
        return cls(await asyncio.start_server(_answer, ip, port))

    async def wait(self) -> int:
        # Shielded: one of several that wait may be cancelled, and must not cancel the end itself.
        return await asyncio.shield(self._ended)

    def signal(self, number: signal.Signals) -> None:
        if not self._ended.done():
            self._server.close()
            self._ended.set_result(0 if number is signal.SIGTERM else 128 + number)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    body = json.dumps({"version": "0", "kernels": 0, "connections": 0}).encode()
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head.encode() + body)
        await writer.drain()
    writer.close()
