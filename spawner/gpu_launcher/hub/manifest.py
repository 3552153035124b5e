"""A plan on KubeSpawner's traits and on the pod that KubeSpawner builds from them. Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from kubernetes_asyncio.client import models

from gpu_launcher.domain.plan import PodPlan
from gpu_launcher.domain.quantity import format_bytes, format_cpu

OWNED_TRAITS = (
    "cpu_guarantee",
    "cpu_limit",
    "extra_resource_guarantees",
    "extra_resource_limits",
    "image",
    "mem_guarantee",
    "mem_limit",
    "node_affinity_required",
    "node_selector",
    "pod_affinity_preferred",
    "priority_class_name",
    "start_timeout",
    "tolerations",
)
"""The traits that a plan writes; the site's values are the baseline of every attempt."""

_GPU = "nvidia.com/gpu"
_SHM = "/dev/shm"  # noqa: S108 - a mount path inside the pod


def planned_traits(site: Mapping[str, Any], plan: PodPlan) -> dict[str, Any]:
    """Return whole new values for ``OWNED_TRAITS``, given the site's own values, which are not changed.

    Where both say something, selectors, tolerations and affinities are joined; amounts, image and priority are the
    plan's wherever it has one.
    """
    site = copy.deepcopy(dict(site))
    amounts = plan.resources
    extended = {_GPU: str(amounts.gpus) if amounts.gpus else None}
    if amounts.ephemeral:
        extended["ephemeral-storage"] = format_bytes(amounts.ephemeral)
    cpu = amounts.cpu_m / 1000
    return {
        "cpu_guarantee": cpu or site["cpu_guarantee"],
        "cpu_limit": cpu or site["cpu_limit"],
        "mem_guarantee": amounts.memory or site["mem_guarantee"],
        "mem_limit": amounts.memory or site["mem_limit"],
        "extra_resource_guarantees": _present({**site["extra_resource_guarantees"], **extended}),
        "extra_resource_limits": _present({**site["extra_resource_limits"], **extended}),
        "image": plan.image or site["image"],
        "node_selector": {**site["node_selector"], **plan.node_selector},
        "tolerations": _joined(site["tolerations"], plan.tolerations),
        "node_affinity_required": required_terms(_items(site["node_affinity_required"]), plan.node_affinity),
        "pod_affinity_preferred": _joined(site["pod_affinity_preferred"], plan.pod_affinity_preferred),
        "priority_class_name": plan.priority_class or site["priority_class_name"],
        "start_timeout": plan.start_timeout_s,
    }


def required_terms(
    terms: Sequence[Mapping[str, Any]], expressions: Sequence[Mapping[str, object]]
) -> list[dict[str, Any]]:
    """Return node selector terms that mean *terms* and *expressions* together.

    Kubernetes takes any one of the terms, so the expressions go into each of them: a term of our own beside the site's
    would be a way around both. An empty term matches no node and stays empty. Applying it twice changes nothing.
    """
    ours = [dict(copy.deepcopy(expression)) for expression in expressions]
    if not ours:
        return [copy.deepcopy(dict(term)) for term in terms]
    if not terms:
        return [{"matchExpressions": ours}]
    joined = []
    for given in terms:
        term = copy.deepcopy(dict(given))
        if term.get("matchExpressions") or term.get("matchFields"):
            have = term.get("matchExpressions") or []
            term["matchExpressions"] = have + [expression for expression in ours if expression not in have]
        joined.append(term)
    return joined


def finish_pod(pod: Any, plan: PodPlan) -> Any:
    """Return the pod with what no trait can carry: labels, annotations, runtime class and /dev/shm.

    KubeSpawner formats annotations, labels and volumes with ``str.format``, so JSON must not go through traits. Amounts
    that nobody changed since are written as exact Kubernetes quantities instead of floats.
    """
    pod.metadata.labels = {**(pod.metadata.labels or {}), **plan.labels}
    pod.metadata.annotations = {**(pod.metadata.annotations or {}), **plan.annotations}
    if plan.runtime_class:
        pod.spec.runtime_class_name = plan.runtime_class
    container = pod.spec.containers[0]
    _write_exact(container.resources, plan)
    if plan.shm and all(mount.mount_path != _SHM for mount in container.volume_mounts or []):
        volume = models.V1Volume(
            name="gpu-launcher-shm",
            empty_dir=models.V1EmptyDirVolumeSource(medium="Memory", size_limit=format_bytes(plan.shm)),
        )
        pod.spec.volumes = [*(pod.spec.volumes or []), volume]
        mount = models.V1VolumeMount(name=volume.name, mount_path=_SHM)
        container.volume_mounts = [*(container.volume_mounts or []), mount]
    return pod


def _write_exact(resources: Any, plan: PodPlan) -> None:
    exact = {
        "cpu": (plan.resources.cpu_m / 1000, format_cpu(plan.resources.cpu_m)),
        "memory": (plan.resources.memory, format_bytes(plan.resources.memory)),
    }
    for amounts in (resources.requests, resources.limits):
        for name, (number, text) in exact.items():
            if number and amounts.get(name) == number:
                amounts[name] = text


def _joined(site: Any, ours: Sequence[Mapping[str, object]]) -> list[Any]:
    theirs = _items(site)
    return theirs + [dict(copy.deepcopy(item)) for item in ours if item not in theirs]


def _items(value: Any) -> list[Any]:
    """Return the list that KubeSpawner would make of a list or a dictionary of items."""
    return [value[key] for key in sorted(value)] if isinstance(value, dict) else list(value or [])


def _present(amounts: Mapping[str, str | None]) -> dict[str, str]:
    return {name: amount for name, amount in amounts.items() if amount is not None}
