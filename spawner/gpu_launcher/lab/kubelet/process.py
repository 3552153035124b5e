"""A container as a real process of this machine, or as a stub where a benchmark only needs an address that answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
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
    """A notebook server that only answers: no process, so that hundreds start at once on a small machine.

    Its answer says when it began to listen, in Unix seconds: what a benchmark compares the hub's word with.
    """

    pid = None

    def __init__(self, ip: str, port: int, after_s: float) -> None:
        self._server: asyncio.Server | None = None
        self._listens_since = 0.0
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._began = asyncio.create_task(self._listen(ip, port, after_s))

    @classmethod
    async def listen(cls, ip: str, port: int, after_s: float = 0.0) -> StubServer:
        """A stub that runs; it listens at once, or after so many seconds, as a slow notebook does."""
        stub = cls(ip, port, after_s)
        if not after_s:
            await stub._began
        return stub

    @property
    def port(self) -> int:
        """The port it listens on, 0 while it does not."""
        return int(self._server.sockets[0].getsockname()[1]) if self._server and self._server.sockets else 0

    async def _listen(self, ip: str, port: int, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._server = await asyncio.start_server(self._answer, ip, port)
        self._listens_since = time.time()

    async def wait(self) -> int:
        # Shielded: one of several that wait may be cancelled, and must not cancel the end itself.
        return await asyncio.shield(self._ended)

    def signal(self, number: signal.Signals) -> None:
        if not self._ended.done():
            self._began.cancel()
            if self._server is not None:
                self._server.close()
            self._ended.set_result(0 if number is signal.SIGTERM else 128 + number)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = json.dumps({"version": "0", "kernels": 0, "connections": 0, "listens_since": self._listens_since})
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"{head}Connection: close\r\n\r\n{body}".encode())
            await writer.drain()
        writer.close()
