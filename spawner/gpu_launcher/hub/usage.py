"""Who holds which GPUs: from live pods, and from starts whose pod does not exist yet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gpu_launcher.domain.identity import label_hash
from gpu_launcher.domain.usage import RunningServer, Usage

_ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Holder:
    """One session that holds, or is about to hold, GPUs; ``user`` is the hash that its pod's label carries."""

    user: str
    server: RunningServer


class Reservations:
    """Starts that were admitted while their pods are not seen yet, by ``namespace/pod``.

    Memory of one hub process: after a restart there are no starts in flight, so nothing is lost.
    """

    def __init__(self) -> None:
        self._holders: dict[str, Holder] = {}

    def hold(self, key: str, holder: Holder) -> None:
        """Count the session from now on; a second call for the same pod replaces the first."""
        self._holders[key] = holder

    def release(self, key: str) -> None:
        """Stop counting the session from here; its pod, if there is one, speaks for itself."""
        self._holders.pop(key, None)

    def usage(self, pods: Mapping[str, Mapping[str, Any]], *, user: str, instance: str, without: str) -> Usage:
        """Return the GPUs in use as *user* (a hash) must see them, without the pod *without*.

        *pods* are raw pods by ``namespace/name``. Pods of other instances in the namespace are not counted; pods
        without an instance (from before the launcher) are.
        """
        holders = {key: holder for key, pod in pods.items() if (holder := _holder(pod, instance))}
        holders |= {key: holder for key, holder in self._holders.items() if key not in holders}
        holders.pop(without, None)
        own = tuple(holder.server for holder in holders.values() if holder.user == user)
        others = tuple(holder.server for holder in holders.values() if holder.user != user)
        return Usage(own=own, others=others)


def _holder(pod: Mapping[str, Any], instance: str) -> Holder | None:
    metadata = pod.get("metadata") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    if labels.get("gpu-launcher/instance", instance) != instance or (pod.get("status") or {}).get("phase") in _ENDED:
        return None
    # From the spec, not from our annotation: an old or edited pod still holds what it holds.
    gpus = sum(_gpus(pod))
    if not gpus:
        return None
    user = labels.get("gpu-launcher/user") or label_hash(annotations.get("hub.jupyter.org/username", ""))
    server = RunningServer(
        # JupyterHub 5 allows any text, and the name ends up in messages and logs: one line.
        name=" ".join(str(annotations.get("hub.jupyter.org/servername", "")).split()),
        gpus=gpus,
        profile_id=labels.get("gpu-launcher/profile"),
        groups=frozenset(groups_of(annotations.get("gpu-launcher/groups"))),
    )
    return Holder(user=user, server=server)


def _gpus(pod: Mapping[str, Any]) -> Iterator[int]:
    for container in (pod.get("spec") or {}).get("containers") or []:
        amount = ((container.get("resources") or {}).get("limits") or {}).get("nvidia.com/gpu")
        if amount is not None and str(amount).isascii() and str(amount).isdigit():
            yield int(amount)


def groups_of(annotation: str | None) -> tuple[str, ...]:
    """Return the groups of a pod's annotation, () for anything malformed."""
    try:
        groups = json.loads(annotation or "[]")
    except ValueError:
        return ()
    return tuple(group for group in groups if isinstance(group, str)) if isinstance(groups, list) else ()
