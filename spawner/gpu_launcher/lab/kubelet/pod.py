"""One pod on its node, from admission to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Iterable
from typing import Any

from gpu_launcher.cluster.errors import Conflict, Invalid, KubeError, NotFound
from gpu_launcher.cluster.paths import core
from gpu_launcher.lab.faults import PodFaultKind
from gpu_launcher.lab.kubelet import process
from gpu_launcher.lab.kubelet.container import ContainerRunner, PodPlace
from gpu_launcher.lab.kubelet.environment import ConfigError
from gpu_launcher.lab.kubelet.events import timestamp
from gpu_launcher.lab.kubelet.host import Host
from gpu_launcher.lab.kubelet.node import DiskFull, Node
from gpu_launcher.lab.kubelet.podvolumes import PodVolumes
from gpu_launcher.lab.kubelet.status import Verdict, Waiting, conditions, container_status, phase_of
from gpu_launcher.lab.kubelet.usage import bytes_below, exceeds

Raw = dict[str, Any]
log = logging.getLogger(__name__)

# Between two attempts to mount what is not there yet.
_MOUNT_RETRY_S = 1.0
# After this long without its disks a kubelet says so, and every time that it has waited as long again.
_MOUNT_COMPLAINT_S = 123.0
_DEFAULT_GRACE_S = 30.0
# A pod that starts at once passes through states which nobody needs to hear of one by one.
_UNSETTLED_S = 0.1


class PodWorker:
    """Runs one pod. `update` brings the newest object, `lose` says that the machine or the object is gone."""

    def __init__(self, host: Host, node: Node, pod: Raw) -> None:
        self._host = host
        self._node = node
        self.pod = pod
        meta = pod["metadata"]
        directory = host.paths.pods / f"{meta['namespace']}_{meta['name']}_{meta['uid']}"
        directory.mkdir(parents=True, exist_ok=True)
        self._volumes = PodVolumes(host.api, host.server, host.attachments, host.paths, directory)
        self._handles: list[str] = []
        self._directory = directory
        self._ip = ""
        self._started_at = timestamp()
        self._verdict: Verdict | None = None
        self._conditions: dict[str, Raw] = {}
        self._published: Raw | None = None
        self._publishing = asyncio.Lock()
        self._dirty = asyncio.Event()
        self._moved = asyncio.Event()
        self.lost = False
        spec = pod["spec"]
        self._init = [self._runner(item, init=True) for item in spec.get("initContainers") or ()]
        self._main = [self._runner(item, init=False) for item in spec["containers"]]

    def _runner(self, spec: Raw, *, init: bool) -> ContainerRunner:
        return ContainerRunner(self._host, self._node, self.pod, spec, init=init, changed=self._dirty.set)

    @property
    def uid(self) -> str:
        return str(self.pod["metadata"]["uid"])

    @property
    def images(self) -> Iterable[str]:
        return (runner.spec["image"] for runner in (*self._init, *self._main))

    @property
    def _ending(self) -> bool:
        return self.lost or "deletionTimestamp" in self.pod["metadata"]

    def update(self, pod: Raw) -> None:
        self.pod = pod
        self._moved.set()

    def lose(self) -> None:
        """The node or the pod object is gone: everything is killed, and nothing is reported any more."""
        self.lost = True
        self._moved.set()

    async def weigh(self) -> int:
        """Bytes of the node's disk that the pod takes; a pod that takes more than its limit is evicted."""
        used = await asyncio.to_thread(bytes_below, self._directory)
        if self._verdict is None and not self._ending and (problem := exceeds(self.pod["spec"], used)):
            self._evict(problem)
        return used

    def evict_if_told(self) -> None:
        """Look at the faults again: they may evict a pod that runs."""
        if self._verdict is None and self._fault(PodFaultKind.EVICT):
            self._node.press()
            self._evict("The node was low on resource: ephemeral-storage. Threshold quantity: 10%, available: 0. ")

    async def run(self) -> None:
        """Run the pod until its object is deleted or its machine is gone."""
        publisher = asyncio.create_task(self._publish_changes())
        life = asyncio.create_task(self._live())
        try:
            await self._until(life)
            if not self.lost and not self._ending:
                # Succeeded, failed or evicted: the object waits for whoever deletes it.
                await self._stop(grace=0 if self._verdict else _DEFAULT_GRACE_S)
                self._release()
                while not self._ending:
                    await self._next_move()
            if not self.lost:
                await self._terminate()
        finally:
            life.cancel()
            publisher.cancel()
            self._kill()
            await self._kill_rest()
            self._release()
            self._volumes.remove()
            if self._ip:
                self._host.addresses.give_back(self._ip)

    # -- life -----------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        if (self.pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return
        if self._fault(PodFaultKind.ADMISSION_ERROR):
            text = "Allocate failed due to can't allocate unregistered device nvidia.com/gpu, which is unexpected"
            self._verdict = Verdict("UnexpectedAdmissionError", text)
            self._host.events.pod(self.pod, "UnexpectedAdmissionError", text, warning=True)
            self._dirty.set()
            return
        self._dirty.set()
        try:
            place = await self._place()
            for runner in self._init:
                await runner.run(place)
                if not runner.record.ready:
                    return
            async with asyncio.TaskGroup() as tasks:
                for runner in self._main:
                    tasks.create_task(runner.run(place))
        except* DiskFull as problems:
            self._evict(str(problems.exceptions[0]))

    async def _place(self) -> PodPlace:
        complaints = asyncio.create_task(self._complain())
        try:
            disks = await self._retried(self._volumes.claimed)
            for name, volume in disks.items():
                if "csi" in volume["spec"]:
                    handle = volume["spec"]["csi"]["volumeHandle"]
                    self._node.use_volume(handle)
                    self._handles.append(handle)
                log.debug("volume pod=%s name=%s pv=%s", self.pod["metadata"]["name"], name, volume["metadata"]["name"])
            mounted = await self._volumes.attach(disks, self._node.name)
            ip = self._host.addresses.take()

            async def fill(pod: Raw) -> dict[str, Any]:
                return await self._volumes.fill(pod, pod_ip=ip, host_ip=self._node.ip)

            try:
                mounted |= await self._retried(fill)
            finally:
                self._ip = ip
        finally:
            complaints.cancel()
        self._dirty.set()
        return PodPlace(self._ip, self._directory, mounted)

    async def _retried(self, step: Any) -> Any:
        while True:
            try:
                return await step(self.pod)
            except (ConfigError, KubeError) as error:
                self._host.events.pod(self.pod, "FailedMount", f"MountVolume.SetUp failed: {error}", warning=True)
                await asyncio.sleep(_MOUNT_RETRY_S)

    async def _complain(self) -> None:
        names = ", ".join(item["name"] for item in self.pod["spec"].get("volumes") or ())
        text = f"Unable to attach or mount volumes: unmounted volumes=[{names}]: timed out waiting for the condition"
        while True:
            await asyncio.sleep(_MOUNT_COMPLAINT_S)
            self._host.events.pod(self.pod, "FailedMount", text, warning=True)

    def _fault(self, fault: PodFaultKind) -> bool:
        return self._host.faults.pod(fault, self.pod["metadata"]["name"], self.images)

    def _evict(self, message: str) -> None:
        self._verdict = Verdict("Evicted", message, evicted=True)
        self._host.events.pod(self.pod, "Evicted", message, warning=True)
        self._dirty.set()
        self._moved.set()

    # -- end ------------------------------------------------------------------------------------------------------

    async def _until(self, life: asyncio.Task[None]) -> None:
        """Returns when the pod ended by itself, was evicted, is to end, or is lost."""
        while not (life.done() or self._ending or self._verdict):
            move = asyncio.create_task(self._next_move())
            await asyncio.wait({life, move}, return_when=asyncio.FIRST_COMPLETED)
            move.cancel()
        if life.done() and (error := life.exception()):
            raise error
        # It must be over before anything is stopped, or it might start what nobody stops.
        life.cancel()
        await asyncio.wait({life})

    async def _next_move(self) -> None:
        await self._moved.wait()
        self._moved.clear()

    async def _terminate(self) -> None:
        """What a kubelet does with a deleted pod: stop it within its grace period, then remove the object."""
        grace = self.pod["metadata"].get("deletionGracePeriodSeconds")
        await self._stop(_DEFAULT_GRACE_S if grace is None else float(grace))
        self._release()
        await self._publish()
        meta = self.pod["metadata"]
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
        path = core("pods", namespace=meta["namespace"], name=meta["name"])
        while not self.lost:
            try:
                await self._host.api.delete(path, body)
            except (NotFound, Conflict):
                return
            except KubeError:
                await asyncio.sleep(1)
            else:
                return

    async def _stop(self, grace: float) -> None:
        """preStop, SIGTERM, the rest of `grace` seconds, SIGKILL, for all containers at once."""
        running = [runner for runner in self._main if runner.running is not None]
        running += [runner for runner in self._init if runner.running is not None]
        for runner in running:
            self._host.events.pod(self.pod, "Killing", f"Stopping container {runner.name}", container=runner.name)
        stops = [asyncio.create_task(self._stop_one(runner, hooks=grace > 0)) for runner in running]
        deadline = asyncio.get_running_loop().time() + grace
        pending: set[asyncio.Task[None]] = set(stops)
        while pending and not self.lost:
            # A second delete may shorten the grace period, never lengthen it.
            shorter = self.pod["metadata"].get("deletionGracePeriodSeconds")
            left = deadline - asyncio.get_running_loop().time()
            left = left if shorter is None else min(left, float(shorter))
            if left <= 0:
                break
            move = asyncio.create_task(self._next_move())
            _, pending = await asyncio.wait({*pending, move}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            pending.discard(move)
            move.cancel()
        if pending:
            self._kill()
            # A hook that still runs is no reason to live longer.
            await self._kill_rest()
        await asyncio.gather(*stops)

    async def _stop_one(self, runner: ContainerRunner, *, hooks: bool) -> None:
        started = runner.running
        if started is None:
            return
        if hooks:
            await runner.hook("preStop", self._directory / f"{runner.name}.log")
        started.signal(signal.SIGTERM)
        code = await started.wait()
        runner.running = None
        runner.end(code)

    def _kill(self) -> None:
        for runner in (*self._init, *self._main):
            if runner.running is not None:
                runner.running.signal(signal.SIGKILL)

    async def _kill_rest(self) -> None:
        """Kill what the pod's processes left behind; a pod without any, as one of stubs, spares the search."""
        if any(runner.has_executed for runner in (*self._init, *self._main)):
            await asyncio.to_thread(process.kill_rest, self.uid)

    def _release(self) -> None:
        """Unmount: the disks are free to be detached."""
        while self._handles:
            self._node.release_volume(self._handles.pop())

    # -- status ---------------------------------------------------------------------------------------------------

    async def _publish_changes(self) -> None:
        while True:
            await self._dirty.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_UNSETTLED_S):
                    while not self._settled():
                        self._dirty.clear()
                        await self._dirty.wait()
            self._dirty.clear()
            if not await self._publish():
                await asyncio.sleep(1)
                self._dirty.set()

    def _settled(self) -> bool:
        """False while the pod is on its way, True when others wait for the news."""
        return bool(self._verdict) or all(not isinstance(item.record.state, Waiting) for item in self._main)

    async def _publish(self) -> bool:
        """True if the API server has the newest status, or does not want it."""
        async with self._publishing:
            status = self._status()
            if status == self._published or self.lost:
                return True
            meta = self.pod["metadata"]
            path = core("pods", namespace=meta["namespace"], name=meta["name"], sub="status")
            try:
                await self._host.api.patch(path, {"metadata": {"uid": self.uid}, "status": status}, "strategic")
            except (NotFound, Conflict, Invalid) as error:
                log.debug("pod status refused pod=%s reason=%s", meta["name"], error.reason)
                return True
            except KubeError as error:
                log.warning("pod status not written pod=%s reason=%s", meta["name"], error.reason)
                return False
            self._published = status
            return True

    def _status(self) -> Raw:
        init = [runner.record for runner in self._init]
        main = [runner.record for runner in self._main]
        policy = self.pod["spec"].get("restartPolicy", "Always")
        phase = "Failed" if self._verdict else phase_of(policy, init, main)
        found = conditions(
            phase,
            init,
            main,
            sandbox=bool(self._ip),
            verdict=self._verdict,
            now=timestamp(),
            previous=self._conditions,
        )
        self._conditions = {item["type"]: item for item in found}
        status: Raw = {
            "phase": phase,
            "conditions": found,
            "hostIP": self._node.ip,
            "hostIPs": [{"ip": self._node.ip}],
            "startTime": self._started_at,
        }
        if self._ip:
            status |= {"podIP": self._ip, "podIPs": [{"ip": self._ip}]}
        if self._verdict:
            return status | {"reason": self._verdict.reason, "message": self._verdict.message}
        if init:
            status["initContainerStatuses"] = [container_status(item) for item in init]
        return status | {"containerStatuses": [container_status(item) for item in main]}
