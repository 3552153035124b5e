"""All kubelets of a lab in one task: nodes and pods come in by watches, each has its own small task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from gpu_launcher.cluster.api import KubeApi
from gpu_launcher.cluster.informer import Informer
from gpu_launcher.cluster.paths import core, group
from gpu_launcher.lab.kubelet.addresses import Addresses
from gpu_launcher.lab.kubelet.credentials import ApiServer
from gpu_launcher.lab.kubelet.events import Events
from gpu_launcher.lab.kubelet.host import Host
from gpu_launcher.lab.kubelet.injected import Injected
from gpu_launcher.lab.kubelet.node import DiskFull, Node
from gpu_launcher.lab.kubelet.pod import PodWorker
from gpu_launcher.lab.kubelet.podvolumes import Attachments
from gpu_launcher.lab.paths import LabPaths
from gpu_launcher.lab.settings import LabSettings

Raw = dict[str, Any]
log = logging.getLogger(__name__)

# Between two looks at the faults file, for faults that hit pods which run already.
_FAULTS_S = 0.5
# Between two looks at what pods keep on the disk; a kubelet looks every 10 s.
_WEIGH_S = 10.0


def runs_here(pod: Raw) -> bool:
    """True for pods that run as processes; KWOK pretends to run the others."""
    labels = pod["metadata"].get("labels") or {}
    return labels.get("component") == "singleuser-server" or labels.get("app.kubernetes.io/name") in (
        "gpu-launcher",
        "jupyterhub",
    )


async def run_kubelet(
    api: KubeApi, paths: LabPaths, settings: LabSettings, *, block: int, ready: asyncio.Event | None = None
) -> None:
    """Run the pods of a lab until cancelled; then every process of every pod is killed.

    `block` is the second part of the pods' addresses (127.block.x.y). `ready` is set once nodes and pods are known.
    """
    host = Host(
        api,
        paths,
        settings,
        ApiServer.from_kubeconfig(paths.kubeconfig),
        Events(api),
        Injected(paths.faults),
        Addresses(block),
        Attachments(),
    )
    async with asyncio.TaskGroup() as tasks:
        await _Kubelets(host, tasks).run(ready)


class _Kubelets:
    def __init__(self, host: Host, tasks: asyncio.TaskGroup) -> None:
        self._host = host
        self._tasks = tasks
        self._nodes: dict[str, tuple[Node, asyncio.Task[None]]] = {}
        self._workers: dict[str, PodWorker] = {}
        # Pods that are bound to a node which we have not heard of yet, by uid.
        self._early: dict[str, Raw] = {}
        # Pods whose end is written but not yet heard of: late news of them is no new pod.
        self._ended: set[str] = set()

    async def run(self, ready: asyncio.Event | None) -> None:
        api = self._host.api
        attachments = Informer(api, group("storage.k8s.io/v1", "volumeattachments"))
        nodes = Informer(api, core("nodes"))
        pods = Informer(api, core("pods"), fieldSelector="spec.nodeName!=")
        attachments.subscribe(self._host.attachments.observe)
        nodes.subscribe(self._on_node)
        pods.subscribe(self._on_pod)
        self._tasks.create_task(self._host.events.run())
        self._tasks.create_task(self._every(_FAULTS_S, self._watch_faults))
        self._tasks.create_task(self._every(_WEIGH_S, self._watch_disks))
        for informer in (attachments, nodes, pods):
            self._tasks.create_task(informer.run())
            await informer.synced.wait()
        if ready is not None:
            ready.set()
        await asyncio.Event().wait()

    def _on_node(self, kind: str, raw: Raw) -> None:
        name = raw["metadata"]["name"]
        known = self._nodes.get(name)
        if known is not None and (kind == "DELETED" or known[0].uid != raw["metadata"]["uid"]):
            self._lose_node(name)
            known = None
        if kind == "DELETED":
            return
        if known is not None:
            known[0].update(raw)
            return
        node = Node(self._host.api, self._host.events, self._host.settings, self._host.faults, raw)
        node.images_wanted = lambda: [image for worker in self._on(name) for image in worker.images]
        self._nodes[name] = node, self._tasks.create_task(self._guarded(node.run(), f"node {name}"))
        for pod in [pod for pod in self._early.values() if pod["spec"]["nodeName"] == name]:
            self._on_pod("ADDED", pod)

    def _lose_node(self, name: str) -> None:
        _, task = self._nodes.pop(name)
        task.cancel()
        for worker in self._on(name):
            worker.lose()

    def _on(self, node: str) -> list[PodWorker]:
        return [worker for worker in self._workers.values() if worker.pod["spec"]["nodeName"] == node]

    def _on_pod(self, kind: str, pod: Raw) -> None:
        uid = pod["metadata"]["uid"]
        self._early.pop(uid, None)
        worker = self._workers.get(uid)
        if kind == "DELETED":
            self._ended.discard(uid)
            if worker is not None:
                worker.lose()
        elif uid in self._ended:
            return
        elif worker is not None:
            worker.update(pod)
        elif (known := self._nodes.get(pod["spec"]["nodeName"])) is None:
            self._early[uid] = pod
        elif runs_here(pod):
            self._adopt(uid, known[0], pod)
        elif kind == "ADDED":
            self._pull_beside(known[0], pod)

    def _adopt(self, uid: str, node: Node, pod: Raw) -> None:
        worker = self._workers[uid] = PodWorker(self._host, node, pod)
        self._tasks.create_task(self._work(uid, worker))

    async def _work(self, uid: str, worker: PodWorker) -> None:
        try:
            await worker.run()
        except Exception:
            # The next event of the pod brings a new worker, which at least can end it.
            log.exception("the pod's task ended pod=%s", worker.pod["metadata"]["name"])
        else:
            if not worker.lost:
                self._ended.add(uid)
        finally:
            del self._workers[uid]

    def _pull_beside(self, node: Node, pod: Raw) -> None:
        """Pods that KWOK plays bring their images to the node too: that is what a pre-puller is for."""
        for container in (*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]):
            if not node.has_image(container["image"]):
                self._tasks.create_task(self._guarded(self._pull(node, container["image"]), f"pull on {node.name}"))

    async def _pull(self, node: Node, image: str) -> None:
        try:
            await node.pull(image)
        except DiskFull as problem:
            log.info("image does not fit node=%s image=%s: %s", node.name, image, problem)

    async def _watch_faults(self) -> None:
        for worker in list(self._workers.values()):
            worker.evict_if_told()

    async def _watch_disks(self) -> None:
        for node, _ in list(self._nodes.values()):
            node.pods_bytes = sum([await worker.weigh() for worker in self._on(node.name)])

    async def _every(self, seconds: float, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._guarded(look(), look.__name__)

    async def _guarded(self, work: Awaitable[None], what: str) -> None:
        """A defect in one task is logged; the others, and the lab, go on."""
        try:
            await work
        except Exception:
            log.exception("the kubelet's task ended what=%s", what)
