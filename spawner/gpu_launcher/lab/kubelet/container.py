"""One container of a pod: its image, its process, its probe, its restarts."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp

from gpu_launcher.cluster.errors import KubeError
from gpu_launcher.lab.faults import PodFaultKind
from gpu_launcher.lab.images import parse_image
from gpu_launcher.lab.kubelet import process
from gpu_launcher.lab.kubelet.credentials import write_kubeconfig
from gpu_launcher.lab.kubelet.environment import ConfigError, container_environment
from gpu_launcher.lab.kubelet.events import timestamp
from gpu_launcher.lab.kubelet.host import Host
from gpu_launcher.lab.kubelet.mounts import (
    TOKEN_DIRECTORY,
    command_words,
    expand,
    home_directory,
    mount_table,
    rewrite,
    rewrite_address,
)
from gpu_launcher.lab.kubelet.node import Node
from gpu_launcher.lab.kubelet.status import Container, Running, State, Terminated, Waiting, back_off_s, restarts

Raw = dict[str, Any]

# From a failed pull to the kubelet's next look at the pod, which then says ImagePullBackOff.
_NEXT_SYNC_S = 1.0
_PULL_BACK_OFF_S = (10.0, 300.0)
# Between two looks at a configuration that is missing something.
_CONFIG_RETRY_S = 2.0
# How long a container with the fault "crash after ready" lives: long enough that everybody saw it Ready.
_CRASH_AFTER_S = 2.0

_DEFAULT_COMMANDS = {"gpu-launcher": "gpu-launcher", "jupyterhub": "jupyterhub"}


@dataclasses.dataclass(frozen=True, slots=True)
class PodPlace:
    """Where a pod runs: its address, its directory, its mounted volumes."""

    ip: str
    directory: Path
    volumes: Mapping[str, Path]


class ContainerRunner:
    """Runs one container; `record` is what its status says, `changed` is called whenever that changes."""

    def __init__(self, host: Host, node: Node, pod: Raw, spec: Raw, *, init: bool, changed: Callable[[], None]) -> None:
        self._host = host
        self._node = node
        self._pod = pod
        self.spec = spec
        self._init = init
        waits_for = "PodInitializing" if pod["spec"].get("initContainers") else "ContainerCreating"
        self._changed = changed
        self.running: process.Started | None = None
        # True once a process was started, which may have left others behind.
        self.has_executed = False
        self.environment: dict[str, str] = {}
        self.working_directory = Path("/")
        self.record = Container(name=spec["name"], image=spec["image"], state=Waiting(waits_for))

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    def _set(self, state: State, **fields: Any) -> None:
        self.record = dataclasses.replace(self.record, state=state, **fields)
        self._changed()

    def _event(self, reason: str, message: str, *, warning: bool = False) -> None:
        self._host.events.pod(self._pod, reason, message, container=self.name, warning=warning)

    def _fault(self, fault: PodFaultKind) -> bool:
        return self._host.faults.pod(fault, self._pod["metadata"]["name"], [self.spec["image"]])

    async def run(self, place: PodPlace) -> None:
        """Run until the container has ended for good. Raises `DiskFull` where its image does not fit."""
        policy = self._pod["spec"].get("restartPolicy", "Always")
        crashes = 0
        while True:
            await self._image()
            ended = await self._once(place)
            last = {"last": self.record.last, "ready": False}
            self._set(ended, **(last if not self._init else {"ready": ended.exit_code == 0}))
            if not restarts(policy, ended.exit_code, init=self._init):
                return
            crashes += 1
            await self._back_off(ended, crashes)

    def end(self, exit_code: int) -> None:
        """Record that the pod's end ended this container too."""
        if isinstance(self.record.state, Running):
            started = self.record.state.started_at
            self._set(Terminated(exit_code, started, timestamp()), ready=False)

    # -- image ----------------------------------------------------------------------------------------------------

    async def _image(self) -> None:
        image = self.spec["image"]
        policy = self.spec.get("imagePullPolicy", "IfNotPresent")
        if policy != "Always" and self._node.has_image(image):
            self._event("Pulled", f'Container image "{image}" already present on machine')
        elif policy == "Never":
            text = f'Container image "{image}" is not present with pull policy of Never'
            await self._no_image("ErrImageNeverPull", text)
        else:
            await self._pull(image)
        self.record = dataclasses.replace(self.record, image_id=parse_image(image).names[0])

    async def _pull(self, image: str) -> None:
        back_off, longest = _PULL_BACK_OFF_S
        while self._fault(PodFaultKind.IMAGE_NOT_FOUND):
            text = f'failed to resolve reference "{image}": {image}: not found'
            self._event("Pulling", f'Pulling image "{image}"')
            problem = f'Failed to pull image "{image}": rpc error: code = NotFound desc = {text}'
            self._event("Failed", problem, warning=True)
            self._event("Failed", "Error: ErrImagePull", warning=True)
            self._set(Waiting("ErrImagePull", f"rpc error: code = NotFound desc = {text}"))
            await asyncio.sleep(_NEXT_SYNC_S)
            self._event("BackOff", f'Back-off pulling image "{image}"')
            self._event("Failed", "Error: ImagePullBackOff", warning=True)
            self._set(Waiting("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {text}'))
            await asyncio.sleep(back_off)
            back_off = min(longest, back_off * 2)
        self._event("Pulling", f'Pulling image "{image}"')
        pull = await self._node.pull(image)
        seconds = f"{pull.seconds or 0.0:.3f}s"
        took = f"in {seconds} ({seconds} including waiting)"
        self._event("Pulled", f'Successfully pulled image "{image}" {took}. Image size: {pull.bytes} bytes.')

    async def _no_image(self, reason: str, message: str) -> None:
        self._event("Failed", f"Error: {reason}", warning=True)
        self._set(Waiting(reason, message))
        while not self._node.has_image(self.spec["image"]):  # noqa: ASYNC110  # a rare state, not worth a signal
            await asyncio.sleep(_CONFIG_RETRY_S)

    # -- process --------------------------------------------------------------------------------------------------

    async def _once(self, place: PodPlace) -> Terminated:
        await self._configure(place)
        self._event("Created", f"Created container: {self.name}")
        started_at = timestamp()
        log = place.directory / f"{self.name}.log"
        if self._fault(PodFaultKind.CRASH_BEFORE_READY):
            self._event("Started", f"Started container {self.name}")
            return Terminated(1, started_at, timestamp())
        try:
            self.running = await self._start(place, log)
        except process.StartError as error:
            self._event("Failed", f"Error: {error}", warning=True)
            return Terminated(128, started_at, timestamp(), "StartError", str(error))
        if self.running.pid is not None:
            (place.directory / f"{self.name}.pid").write_text(str(self.running.pid))
        self._event("Started", f"Started container {self.name}")
        probe = self.spec.get("readinessProbe")
        self._set(Running(started_at), ready=probe is None, container_id=f"containerd://{uuid4().hex}{uuid4().hex}")
        async with asyncio.TaskGroup() as tasks:
            beside = []
            if probe is not None:
                beside.append(tasks.create_task(self._probe(probe, place.ip)))
            if self._fault(PodFaultKind.CRASH_AFTER_READY):
                beside.append(tasks.create_task(self._crash()))
            code = await self.running.wait()
            for task in beside:
                task.cancel()
        self.running = None
        if self.has_executed:
            await asyncio.to_thread(process.kill_rest, self._mark)
        return Terminated(code, started_at, timestamp())

    @property
    def _mark(self) -> str:
        """What the processes of this container, and of no other, carry in their environment."""
        return f"{self._pod['metadata']['uid']}/{self.name}"

    async def _configure(self, place: PodPlace) -> None:
        while True:
            try:
                given = await container_environment(
                    self._host.api, self._pod, self.spec, pod_ip=place.ip, host_ip=self._node.ip
                )
            except (ConfigError, KubeError) as error:
                self._event("Failed", f"Error: {error}", warning=True)
                self._set(Waiting("CreateContainerConfigError", str(error)))
                await asyncio.sleep(_CONFIG_RETRY_S)
            else:
                break
        table = mount_table(self.spec, place.volumes)
        python = process.interpreter(self._pod["metadata"].get("annotations") or {})
        home, tmp = place.directory / "home", place.directory / "tmp"
        home.mkdir(parents=True, exist_ok=True)
        tmp.mkdir(parents=True, exist_ok=True)
        home = home_directory(table, self.spec.get("workingDir"), home)
        env = process.base_environment(python, home, tmp, self._pod["metadata"]["name"])
        if account := table.get(TOKEN_DIRECTORY):
            kubeconfig = place.directory / "kubeconfig"
            write_kubeconfig(kubeconfig, self._host.server.url, account, self._pod["metadata"]["namespace"])
            env["KUBECONFIG"] = str(kubeconfig)
        env |= {name: rewrite_address(rewrite(value, table), place.ip) for name, value in given.items()}
        self.environment = env
        self.working_directory = Path(rewrite(self.spec.get("workingDir") or str(home), table))
        label = (self._pod["metadata"].get("labels") or {}).get("app.kubernetes.io/name", "")
        default = [_DEFAULT_COMMANDS.get(label, "jupyterhub-singleuser")]
        if self._is_notebook:
            default = ["jupyterhub-singleuser"]
        words = [expand(word, env) for word in command_words(self.spec, default)]
        self._words = [rewrite_address(rewrite(word, table), place.ip) for word in words]
        self._python = python

    @property
    def _is_notebook(self) -> bool:
        return (self._pod["metadata"].get("labels") or {}).get("component") == "singleuser-server"

    async def _start(self, place: PodPlace, log: Path) -> process.Started:
        annotations = self._pod["metadata"].get("annotations") or {}
        if annotations.get("gpu-launcher-lab/server") == "stub" and not self._init:
            ports = self.spec.get("ports") or [{"containerPort": 8888}]
            after_s = float(annotations.get("gpu-launcher-lab/answers-after") or 0)
            return await process.StubServer.listen(place.ip, ports[0]["containerPort"], after_s)
        words = process.resolve(self._words, self._python, root=self._host.is_root)
        return await self.execute(words, log)

    async def execute(self, words: list[str], log: Path) -> process.ChildProcess:
        """A process in this container. Raises `StartError`."""
        directory = self.working_directory
        if not directory.is_dir():
            directory = Path(self.environment["HOME"])
        lab = self._host.paths.directory
        # Before the start: whoever is cancelled during it has a process all the same.
        self.has_executed = True
        return await process.start(words, mark=self._mark, env=self.environment, cwd=directory, log=log, lab=lab)

    async def hook(self, name: str, log: Path) -> None:
        """Run a lifecycle hook (`preStop`) that is a command; its failure is an event, never an end."""
        words = ((self.spec.get("lifecycle") or {}).get(name) or {}).get("exec", {}).get("command")
        if not words:
            return
        try:
            started = await self.execute(process.resolve(words, self._python, root=self._host.is_root), log)
            code = await started.wait()
        except process.StartError:
            code = 126
        if code:
            self._event(f"Failed{name[0].upper()}{name[1:]}Hook", f"{name} hook exited with {code}", warning=True)

    async def _crash(self) -> None:
        await asyncio.sleep(_CRASH_AFTER_S)
        if self.running is not None:
            self.running.signal(signal.SIGKILL)

    async def _back_off(self, ended: Terminated, crashes: int) -> None:
        delay = back_off_s(crashes)
        meta = self._pod["metadata"]
        where = f"pod={meta['name']}_{meta['namespace']}({meta['uid']})"
        if delay:
            message = f"back-off {delay:.0f}s restarting failed container={self.name} {where}"
            self._event("BackOff", f"Back-off restarting failed container {self.name} in pod {where[4:]}", warning=True)
            self._set(Waiting("CrashLoopBackOff", message), last=ended)
            await asyncio.sleep(delay)
        self.record = dataclasses.replace(self.record, last=ended, restarts=self.record.restarts + 1)

    # -- probe ----------------------------------------------------------------------------------------------------

    async def _probe(self, probe: Mapping[str, Any], ip: str) -> None:
        """Keep `ready` true to a readiness probe; anything but HTTP counts as passed at once."""
        await asyncio.sleep(float(probe.get("initialDelaySeconds") or 0))
        period = float(probe.get("periodSeconds") or 10)
        timeout = aiohttp.ClientTimeout(total=float(probe.get("timeoutSeconds") or 1))
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                ready = "httpGet" not in probe or await self._answers(session, probe["httpGet"], ip)
                if ready != self.record.ready:
                    self._set(self.record.state, ready=ready)
                # Before the first success a kubelet probes often enough that a quick start is seen quickly.
                await asyncio.sleep(period if ready else min(period, 0.5))

    async def _answers(self, session: aiohttp.ClientSession, http: Mapping[str, Any], ip: str) -> bool:
        port = http.get("port", 80)
        if isinstance(port, str):
            ports = {item.get("name"): item["containerPort"] for item in self.spec.get("ports") or ()}
            port = ports.get(port, port)
        url = f"{str(http.get('scheme') or 'HTTP').lower()}://{http.get('host') or ip}:{port}{http.get('path') or '/'}"
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with session.get(url, allow_redirects=False) as response:
                return 200 <= response.status < 400
        return False
