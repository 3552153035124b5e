"""A running lab in Python's hands: start it, use it, stop it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gpu_launcher.cluster.paths import core
from gpu_launcher.lab import process
from gpu_launcher.lab.build import Build
from gpu_launcher.lab.paths import LabError, LabPaths, labs_root, read_json
from gpu_launcher.lab.pki import write_kubeconfig
from gpu_launcher.lab.settings import LabSettings

if TYPE_CHECKING:
    from gpu_launcher.cluster.api import KubeApi
    from gpu_launcher.lab.faults import Faults

_POLL_S = 0.05
# The supervisor gives its servers 3 s each, sessions a little more; after this it is killed.
_STOP_S = 40.0
_TOKEN_S = 24 * 3600


class Lab:
    """A lab that is ready."""

    def __init__(self, paths: LabPaths, state: dict[str, Any]) -> None:
        self.paths = paths
        self.settings = LabSettings.read(paths.settings)
        self._state = state

    @classmethod
    def attach(cls, name: str) -> Self:
        """The running lab ``name``. Raises ``LabError`` when it does not run or is not ready."""
        paths = LabPaths.named(name)
        state = running_state(paths)
        if state is None:
            raise LabError(f"no lab {name!r} runs here; start it with `gpu-launcher lab up --name {name}`")
        if state["stage"] != "ready":
            raise LabError(f"lab {name!r} is {state['stage']}, not ready; see {paths.logs}")
        return cls(paths, state)

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.paths.name

    @property
    def directory(self) -> Path:
        """Where everything of this lab lies."""
        return self.paths.directory

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.paths.kubeconfig

    @property
    def block(self) -> int:
        """The lab's share of loopback: pods live on 127.<block>.x.y."""
        return int(self._state["block"])

    @property
    def state(self) -> dict[str, Any]:
        """``lab.json`` as it was when this handle was made."""
        return self._state

    @property
    def faults(self) -> Faults:
        """The switches for what goes wrong."""
        from gpu_launcher.lab.faults import Faults

        return Faults(self.paths.faults)

    def url(self, name: str) -> str:
        """The URL ``name`` of ``lab.json``: ``api``, ``karpenter_metrics``, ``karpenter_health``."""
        return str(self._state["urls"][name])

    @contextlib.asynccontextmanager
    async def api(self, kubeconfig: Path | None = None) -> AsyncIterator[KubeApi]:
        """A connection as administrator, or as whoever ``kubeconfig`` says."""
        # The client is slow to import, and `gpu-launcher lab up` does without.
        from gpu_launcher.cluster.api import KubeApi

        async with await KubeApi.connect(kubeconfig or self.kubeconfig) as api:
            yield api

    async def token_kubeconfig(self, namespace: str, service_account: str) -> Path:
        """A kubeconfig that acts as ``service_account``, with a token of the API server that lasts a day."""
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        path = core("serviceaccounts", namespace=namespace, name=service_account, sub="token")
        async with self.api() as api:
            answer = await api.post(path, request | {"spec": {"expirationSeconds": _TOKEN_S}})
        target = self.paths.pki / f"{namespace}.{service_account}.kubeconfig"
        write_kubeconfig(
            target,
            server=self.url("api"),
            authority=self.paths.pki / "ca.crt",
            user=f"{namespace}:{service_account}",
            token=answer["status"]["token"],
            namespace=namespace,
        )
        return target

    async def ended(self) -> None:
        """Wait until the lab ends. Raises ``LabError`` with the reason when nobody asked it to."""
        supervisor = self._state["supervisor"]
        await _until(lambda: not process.is_alive(supervisor["pid"], supervisor["started"]))
        last = read_json(self.paths.state) or {}
        # `gpu-launcher lab down` takes the directory away as well.
        if last.get("stage") != "stopped" and self.directory.exists():
            raise LabError(
                f"lab {self.name!r} ended: {last.get('error') or process.hint(self.paths.log('supervisor'))}"
            )

    async def helm(self, *arguments: str, timeout_s: float = 300.0) -> str:
        """What ``helm`` with ``arguments`` prints. Raises ``LabError`` with its own words when it fails."""
        from gpu_launcher.lab.helm import helm

        return await helm(self._state["programs"]["helm"], self.paths, *arguments, timeout_s=timeout_s)


@contextlib.asynccontextmanager
async def running_lab(settings: LabSettings | None = None, name: str | None = None) -> AsyncIterator[Lab]:
    """A new lab for the length of a block; it also ends when this thread ends, however it ends.

    Its directory goes with it, except after an error: then the logs stay.
    """
    paths = LabPaths.named(name or f"test-{os.getpid()}-{secrets.token_hex(3)}")
    lab = await start(paths, settings or LabSettings.fast(), bound=True)
    failed = False
    try:
        yield lab
    except Exception:
        failed = True
        raise
    finally:
        await stop(paths, keep=failed)


async def start(
    paths: LabPaths, settings: LabSettings, *, bound: bool = False, say: Callable[[str], None] | None = None
) -> Lab:
    """A new lab that is ready; builds the servers if need be. ``bound``: it stops when this thread ends.

    Raises ``LabError`` when that lab runs already, or with the reason and the right log when it fails. Then, and when
    this is cancelled, nothing runs afterwards and the logs stay.
    """
    await asyncio.to_thread(Build().ensure)
    started = await _launch(paths, settings, bound=bound, say=say)
    try:
        return await _wait_until_ready(paths, started)
    except BaseException:
        await stop(paths, keep=True)
        raise


def running_state(paths: LabPaths) -> dict[str, Any] | None:
    """``lab.json`` of a lab whose supervisor is alive, else None."""
    match read_json(paths.state):
        case {"supervisor": {"pid": int(pid), "started": int(started)}, "stage": str()} as state:
            return state if process.is_alive(pid, started) else None
    # Missing, half a file, or what another version wrote.
    return None


def all_labs() -> list[tuple[LabPaths, dict[str, Any] | None]]:
    """Every lab that has a directory, with its state if it runs."""
    root = labs_root()
    found = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    labs: list[tuple[LabPaths, dict[str, Any] | None]] = []
    for name in found:
        with contextlib.suppress(LabError):  # not a lab's directory
            labs.append((paths := LabPaths.named(name), running_state(paths)))
    return labs


def _prepare(paths: LabPaths, settings: LabSettings) -> int:
    """A fresh directory for a lab, and the number of leftover processes that were killed for it.

    Raises ``LabError`` when that lab runs.
    """
    if running_state(paths) is not None:
        raise LabError(f"lab {paths.name!r} runs already; stop it with `gpu-launcher lab down --name {paths.name}`")
    killed = process.clean(paths.directory)
    shutil.rmtree(paths.directory, ignore_errors=True)
    paths.create()
    settings.write(paths.settings)
    return killed


async def _launch(
    paths: LabPaths, settings: LabSettings, *, bound: bool, say: Callable[[str], None] | None
) -> subprocess.Popen[bytes]:
    async with _starting():
        killed = await asyncio.to_thread(_prepare, paths, settings)
        if killed and say is not None:
            say(f"Cleaned up after a lab that was killed: {killed} processes")
        with paths.log("supervisor").open("ab") as output:
            # In this thread: its end is what a bound lab watches.
            started = subprocess.Popen(  # noqa: ASYNC220 - a fork, and nothing to wait for
                [sys.executable, "-m", "gpu_launcher.lab", paths.name],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=paths.directory,
                start_new_session=True,
                preexec_fn=process.die_with_parent(signal.SIGTERM) if bound else None,
            )
        # Until the supervisor has said who it is, nobody else may find this directory free.
        try:
            await _until(lambda: read_json(paths.state) is not None or started.poll() is not None)
        except BaseException:
            # Nor would ``stop`` find it.
            started.terminate()
            await _until(lambda: started.poll() is not None)
            raise
    return started


async def _wait_until_ready(paths: LabPaths, started: subprocess.Popen[bytes]) -> Lab:
    while started.poll() is None:
        state = read_json(paths.state)
        if state and state["stage"] == "ready":
            return Lab(paths, state)
        await asyncio.sleep(_POLL_S)
    error = (read_json(paths.state) or {}).get("error")
    raise LabError(f"lab {paths.name!r} did not start: {error or process.hint(paths.log('supervisor'))}")


async def stop(paths: LabPaths, *, keep: bool = False) -> bool:
    """Whether a lab ran. Afterwards no process of it is left, and its directory only with ``keep``."""
    state = running_state(paths)
    if state is not None:
        pid, started = state["supervisor"]["pid"], state["supervisor"]["started"]
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(_until(lambda: not process.is_alive(pid, started)), _STOP_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            await _until(lambda: not process.is_alive(pid, started))
    async with _starting():
        # Somebody may have started the next lab of that name meanwhile; what is there is theirs then.
        if running_state(paths) is None:
            await asyncio.to_thread(process.clean, paths.directory)
            if not keep:
                await asyncio.to_thread(shutil.rmtree, paths.directory, ignore_errors=True)
    return state is not None


@contextlib.asynccontextmanager
async def _starting() -> AsyncIterator[None]:
    # The lock is on the directory of all labs itself: no lock file stays behind.
    root = labs_root()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # Not a blocking lock: the holder may be another task of this very loop.
                await asyncio.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


async def _until(holds: Callable[[], bool]) -> None:
    # Files and other processes' ends cannot be awaited.
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(_POLL_S)
