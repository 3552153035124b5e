"""What a start is waiting for, or why it cannot succeed: state first, events as hints, unknown facts named."""

from __future__ import annotations

from dataclasses import replace

from gpu_launcher.domain.stage import Stage
from gpu_launcher.domain.start import StartPolicy, StartSnapshot
from gpu_launcher.explain import refusals
from gpu_launcher.explain.finding import Diagnosis
from gpu_launcher.explain.landed import landed
from gpu_launcher.explain.waiting import waiting

__all__ = ["Diagnosis", "diagnose"]


def diagnose(snapshot: StartSnapshot, policy: StartPolicy) -> Diagnosis:
    """Return where the start is. Facts that could not be read are named in ``unknown`` and never end a start."""
    pod = snapshot.pod
    if pod is None:
        found = _without_pod(snapshot)
    elif pod.node or pod.ended or pod.deleting:
        found = landed(snapshot, pod, policy)
    else:
        found = waiting(snapshot, pod, policy)
    return replace(found, unknown=_unknown(snapshot))


def _without_pod(snapshot: StartSnapshot) -> Diagnosis:
    if snapshot.pod_seen and _node_is_gone(snapshot):
        technical = f"node {snapshot.last_node} is gone or going, and the pod with it"
        return Diagnosis(Stage.QUEUED, "The machine is gone", refusal=refusals.node_deleted(technical))
    if snapshot.pod_seen:
        return Diagnosis(Stage.QUEUED, "The server was deleted in the cluster", refusal=refusals.pod_deleted())
    return Diagnosis(Stage.QUEUED, "Asking the cluster for a place", since=snapshot.asked_at)


def _node_is_gone(snapshot: StartSnapshot) -> bool:
    if not snapshot.last_node or snapshot.nodes is None:
        return False
    return all(node.deleting for node in snapshot.nodes if node.name == snapshot.last_node)


def _unknown(snapshot: StartSnapshot) -> tuple[str, ...]:
    facts = (
        (snapshot.nodes, "which machines are there"),
        (snapshot.claims, "which machines are on their way"),
        (snapshot.node_pools, "which machines can be bought"),
        (snapshot.volumes, "where your files are"),
    )
    return tuple(words for fact, words in facts if fact is None)
