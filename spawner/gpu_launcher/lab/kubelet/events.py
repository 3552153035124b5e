"""Events as a kubelet records them: in order for each object, repeated ones counted up, never in anybody's way."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from gpu_launcher.cluster.api import KubeApi
from gpu_launcher.cluster.errors import KubeError, NotFound
from gpu_launcher.cluster.paths import core

log = logging.getLogger(__name__)

# Few: when 100 pods start at once, what they say about it must not hold up the starts themselves.
_LANES = 4
# Events whose count can still be raised. As in client-go's correlator; older ones are written anew.
_REMEMBERED = 4096


def timestamp() -> str:
    """Now, as the API writes times."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Events:
    """Writes events in the background; `run` does the work."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._lanes: list[asyncio.Queue[tuple[str, dict[str, Any]]]] = [asyncio.Queue() for _ in range(_LANES)]
        self._written: OrderedDict[tuple[str, ...], tuple[str, str, int]] = OrderedDict()

    def pod(
        self, pod: Mapping[str, Any], reason: str, message: str, *, container: str | None = None, warning: bool = False
    ) -> None:
        """Record an event about a pod, or one of its containers, without waiting."""
        meta = pod["metadata"]
        target = {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
            "resourceVersion": meta.get("resourceVersion", ""),
        }
        if container is not None:
            target["fieldPath"] = f"spec.containers{{{container}}}"
        self._put(target, meta["namespace"], pod["spec"].get("nodeName", ""), reason, message, warning)

    def node(self, name: str, reason: str, message: str, *, warning: bool = False) -> None:
        """Record an event about a node, without waiting."""
        # The kubelet uses the node's name as its uid here, and everybody who reads such events relies on it.
        target = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": name}
        self._put(target, "default", name, reason, message, warning)

    async def run(self) -> None:
        """Write what is recorded, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for lane in self._lanes:
                tasks.create_task(self._drain(lane))

    def _put(self, target: dict[str, str], namespace: str, node: str, reason: str, message: str, warning: bool) -> None:
        now = timestamp()
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{target['name']}.{uuid4().hex[:16]}", "namespace": namespace},
            "involvedObject": target,
            "reason": reason,
            "message": message,
            "type": "Warning" if warning else "Normal",
            "source": {"component": "kubelet", "host": node},
            "reportingComponent": "kubelet",
            "reportingInstance": node,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        self._lanes[hash(target["uid"]) % _LANES].put_nowait((namespace, event))

    async def _drain(self, lane: asyncio.Queue[tuple[str, dict[str, Any]]]) -> None:
        while True:
            namespace, event = await lane.get()
            try:
                await self._write(namespace, event)
            except KubeError as error:
                # An event is lost when the namespace is going away; so it is in life.
                log.debug("event lost reason=%s status=%s", event["reason"], error.status)

    async def _write(self, namespace: str, event: dict[str, Any]) -> None:
        target = event["involvedObject"]
        key = (target["uid"], target.get("fieldPath", ""), event["reason"], event["message"])
        if known := self._written.get(key):
            name, first, count = known
            body = {"count": count + 1, "lastTimestamp": event["lastTimestamp"]}
            try:
                await self._api.patch(core("events", namespace=namespace, name=name), body)
            except NotFound:
                pass
            else:
                self._remember(key, (name, first, count + 1))
                return
        await self._api.post(core("events", namespace=namespace), event)
        self._remember(key, (event["metadata"]["name"], event["firstTimestamp"], 1))

    def _remember(self, key: tuple[str, ...], entry: tuple[str, str, int]) -> None:
        self._written[key] = entry
        self._written.move_to_end(key)
        while len(self._written) > _REMEMBERED:
            self._written.popitem(last=False)
