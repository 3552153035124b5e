"""The one process that holds a lab together: it starts everything, watches everything, and ends everything."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from gpu_launcher.lab import bootstrap, process
from gpu_launcher.lab.build import Servers
from gpu_launcher.lab.controlplane import ControlPlane, Launch, Server, assign_ports, base_environment
from gpu_launcher.lab.paths import LabError, LabPaths, write_json
from gpu_launcher.lab.pki import make_pki, write_kubeconfig
from gpu_launcher.lab.ports import Block, claim_block
from gpu_launcher.lab.process import Child
from gpu_launcher.lab.settings import LabSettings

if TYPE_CHECKING:
    from gpu_launcher.cluster.api import KubeApi

log = logging.getLogger(__name__)

# A cold page cache on a busy machine takes a minute; longer means that something is stuck, and the logs say what.
_START_S = 120.0
# Servers hold nothing that is worth waiting for; etcd is thrown away with the lab.
_GRACE_S = 3.0
# Between choosing a free port and listening on it, another program may take it.
_ATTEMPTS = 3
_PORT_TAKEN = "address already in use"


class Stage(StrEnum):
    """How far a lab is."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class _Stopped(Exception):
    """Somebody asked the lab to end."""


class ServerDied(LabError):
    """A server ended by itself."""

    def __init__(self, child: Child, code: int) -> None:
        self.child = child
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        super().__init__(f"{child.name} {how}: {process.hint(child.log)}")


class Supervisor:
    """One lab from its first server to its last. ``run`` is its whole life."""

    def __init__(self, paths: LabPaths, settings: LabSettings, servers: Servers) -> None:
        self._paths = paths
        self._settings = settings
        self._servers = servers
        self._children: list[Child] = []
        self._stop = asyncio.Event()
        self._began = time.monotonic()
        self._state: dict[str, Any] = {
            "version": 1,
            "name": paths.name,
            "directory": str(paths.directory),
            "programs": {"helm": servers.program("helm")},
            "supervisor": {"pid": os.getpid(), "started": process.start_time(os.getpid())},
        }

    async def run(self) -> int:
        """The exit status: 0 after a stop that was asked for, 1 after a failure, which ``lab.json`` explains."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        self._note(Stage.STARTING)
        problem: str | None = None
        try:
            await self._live()
        except* _Stopped:
            pass
        except* Exception as group:
            problem = self._explain(group)
        self._note(Stage.STOPPING, error=problem)
        await self._end_children()
        self._note(Stage.FAILED if problem else Stage.STOPPED, error=problem)
        return 1 if problem else 0

    async def _live(self) -> None:
        block = claim_block()
        try:
            free = block.free_ports()
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    await self._live_on(block, assign_ports(free))
                except* ServerDied as group:
                    if attempt == _ATTEMPTS or not any(_port_was_taken(error) for error in group.exceptions):
                        raise
                    log.warning("a port was taken by another program; trying other ports")
                    await self._end_children()
                    # The next attempt has keys of its own and starts from nothing.
                    shutil.rmtree(self._paths.etcd)
                    self._paths.create()
        finally:
            block.release()

    async def _live_on(self, block: Block, ports: dict[str, int]) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._until_stopped())
            group.create_task(self._bring_up(group, block, ports))

    async def _until_stopped(self) -> None:
        await self._stop.wait()
        raise _Stopped

    async def _bring_up(self, group: asyncio.TaskGroup, block: Block, ports: dict[str, int]) -> None:
        paths, settings = self._paths, self._settings
        control = ControlPlane(paths, settings, self._servers, make_pki(paths.pki), ports)
        write_kubeconfig(
            paths.kubeconfig,
            server=control.url,
            authority=control.pki.authority,
            user="admin",
            token=control.pki.tokens["admin"],
        )
        self._state |= {"block": block.number, "ports": ports, "urls": control.urls()}
        self._note(Stage.STARTING)

        async def launch(server: Server) -> None:
            await self._launch(group, server)

        async with asyncio.timeout(_START_S):
            if not paths.faults.exists():
                write_json(paths.faults, {})
            # The API client takes seconds to import: meanwhile the API server starts.
            imported = asyncio.create_task(asyncio.to_thread(importlib.import_module, "gpu_launcher.cluster.api"))
            await asyncio.gather(
                asyncio.to_thread(_write_instance_types, paths, settings),
                control.start_api(launch),
            )
            await asyncio.gather(control.start_controllers(launch), self._fill(control, launch, imported))
            await self._start_own_parts(group, block)
        self._state["seconds"] = round(time.monotonic() - self._began, 1)
        self._note(Stage.READY)
        log.info("lab is ready name=%s seconds=%s", paths.name, self._state["seconds"])

    async def _fill(self, control: ControlPlane, launch: Launch, imported: asyncio.Task[Any]) -> None:
        await imported
        async with self._connected() as api:
            await bootstrap.create_crds(api, self._servers.crds)
            log.info("CRDs are served")
            await asyncio.gather(
                bootstrap.create_stages(api),
                bootstrap.create_system_node(api),
                control.start_nodes(launch),
                bootstrap.wait_until_settled(api),
            )

    async def _start_own_parts(self, group: asyncio.TaskGroup, block: Block) -> None:
        from gpu_launcher.lab.kubelet import run_kubelet
        from gpu_launcher.lab.volumes import run_volumes

        group.create_task(self._run_part(run_volumes), name="volumes")
        ready = asyncio.Event()
        kubelet = partial(run_kubelet, block=block.number, ready=ready)
        group.create_task(self._run_part(kubelet), name="kubelet")
        await ready.wait()

    async def _run_part(self, part: Callable[[KubeApi, LabPaths, LabSettings], Awaitable[None]]) -> None:
        async with self._connected() as api:
            await part(api, self._paths, self._settings)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[KubeApi]:
        from gpu_launcher.cluster.api import KubeApi

        async with await KubeApi.connect(self._paths.kubeconfig) as api:
            yield api

    async def _launch(self, group: asyncio.TaskGroup, server: Server) -> None:
        child = await process.start(
            server.argv,
            log=self._paths.log(server.name),
            lab=self._paths.directory,
            env={**base_environment(self._paths), **server.env},
            cwd=self._paths.tmp,
        )
        self._children.append(child)
        log.info("started server=%s pid=%s", server.name, child.pid)
        group.create_task(_watch(child), name=f"watch {child.name}")
        self._note(Stage.STARTING)

    async def _end_children(self) -> None:
        # Last started, first ended: nobody loses the server that it speaks to while it says goodbye.
        for child in reversed(self._children):
            await child.stop(_GRACE_S)
        self._children.clear()
        # What sessions started and left behind carries the marker.
        await asyncio.to_thread(process.clean, self._paths.directory)

    def _explain(self, group: BaseExceptionGroup[Exception]) -> str:
        errors = list(_leaves(group))
        log.error("lab failed", exc_info=group)
        known = [str(error) for error in errors if isinstance(error, LabError)]
        if known:
            return known[0]
        own_log = self._paths.log("supervisor")
        if any(isinstance(error, TimeoutError) for error in errors):
            waiting = ", ".join(child.name for child in self._children) or "none"
            return f"not ready after {_START_S:.0f} s (servers running: {waiting}); see the logs in {self._paths.logs}"
        return f"{type(errors[0]).__name__}: {errors[0]}; see {own_log}"

    def _note(self, stage: Stage, error: str | None = None) -> None:
        self._state |= {
            "stage": stage,
            "error": error,
            "processes": {
                child.name: {"pid": child.pid, "started": process.start_time(child.pid), "log": str(child.log)}
                for child in self._children
            },
        }
        # A full disk or a directory that is being removed must not keep the servers from being ended.
        try:
            write_json(self._paths.state, self._state)
        except OSError as error:
            log.warning("state not written stage=%s: %s", stage, error)


async def _watch(child: Child) -> None:
    raise ServerDied(child, await child.wait())


def _port_was_taken(error: Exception) -> bool:
    return isinstance(error, ServerDied) and any(_PORT_TAKEN in line for line in process.tail(error.child.log, 40))


def _leaves(group: BaseExceptionGroup[Exception]) -> list[Exception]:
    leaves: list[Exception] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves


def _write_instance_types(paths: LabPaths, settings: LabSettings) -> None:
    from gpu_launcher.lab.instance_types import write_instance_types

    write_instance_types(paths.instance_types, settings)
