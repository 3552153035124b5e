"""A pod that has its node: volumes, image, container, and all the ways in which that ends."""

from __future__ import annotations

from dataclasses import replace

from gpu_launcher.domain.outcomes import Refusal, RefusalReason
from gpu_launcher.domain.stage import Stage
from gpu_launcher.domain.start import StartPolicy, StartSnapshot
from gpu_launcher.domain.views import NodeView, PodView
from gpu_launcher.explain import refusals
from gpu_launcher.explain.containers import crash_problem, create_problem, notebook_of, pull_problem, stage_of
from gpu_launcher.explain.finding import Diagnosis
from gpu_launcher.explain.kinds import kind_of
from gpu_launcher.explain.volumes import attaching

# A pod can be seen on its node before the node itself is seen.
_NODE_SEEN_S = 4.0

_NOT_ADMITTED = frozenset(
    {
        "UnexpectedAdmissionError",
        "NodeAffinity",
        "NodePorts",
        "NodeSelectorMismatching",
        "InvalidNodeInfo",
        "TopologyAffinityError",
        "ResourceAllocationError",
        "SMTAlignmentError",
        "PodOSSelectorNodeLabelDoesNotMatch",
        "PodOSNotSupported",
        "PodFeatureUnsupported",
        "AppArmor",
    }
)
_NODE_ENDED = frozenset({"Shutdown", "NodeShutdown", "Terminated", "NodeLost", "NodeDeleted"})
_NODE_DISRUPTION = frozenset({"DeletionByTaintManager", "DeletionByPodGC"})
_EVICTIONS = {
    "EvictionByEvictionAPI": "the machine is being taken away",
    "PreemptionByScheduler": "more important work needed the machine",
    "TerminationByKubelet": "the machine was short of resources",
}

_WORDS = {
    RefusalReason.ADMISSION_ERROR: "The machine did not accept the server",
    RefusalReason.NODE_DELETED: "The machine is gone",
    RefusalReason.EVICTED: "The server had to leave its machine",
    RefusalReason.POD_DELETED: "The server was deleted in the cluster",
    RefusalReason.CRASH: "The server has ended by itself",
}


def landed(snapshot: StartSnapshot, pod: PodView, policy: StartPolicy) -> Diagnosis:
    """Return the diagnosis of a pod with a node, alive or ended."""
    node = next((node for node in snapshot.nodes or () if node.name == pod.node), None)
    scheduled = pod.conditions.get("PodScheduled")
    since = (scheduled.since if scheduled else None) or pod.created_at or snapshot.asked_at
    found = _ended(snapshot, pod, node) or _node_trouble(snapshot, pod, node, since, policy)
    if found is None:
        found = _container(snapshot, pod, policy, node, since)
    found = replace(found, kind=kind_of(snapshot, pod, node), node=pod.node)
    return found.on_node(node) if node is not None else found


def _container(
    snapshot: StartSnapshot, pod: PodView, policy: StartPolicy, node: NodeView | None, since: float
) -> Diagnosis:
    problem = (
        crash_problem(pod, policy)
        or pull_problem(pod, snapshot, policy, since)
        or create_problem(pod, snapshot, policy, since)
    )
    if problem is not None:
        return problem
    # Volumes come before the sandbox, so that a sandbox says that they are there.
    sandbox = pod.conditions.get("PodReadyToStartContainers")
    begun = any(event.reason in ("Pulling", "Pulled", "Created", "Started") for event in snapshot.events)
    if not (sandbox is not None and sandbox.true) and not pod.ip and not begun:
        waits = attaching(pod, snapshot, policy, since)
        if waits is not None:
            return waits
    return stage_of(pod, snapshot, node, since)


def _ended(snapshot: StartSnapshot, pod: PodView, node: NodeView | None) -> Diagnosis | None:
    """The end of a pod that is over or is being deleted."""
    if pod.ended:
        end, again = _end_of(pod)
    elif pod.deleting:
        end, again = _deletion_of(snapshot, pod, node), False
    else:
        return None
    stage = Stage.SERVER_ANSWERING if (notebook := notebook_of(pod)) and notebook.started_at else Stage.STARTING
    words = _WORDS.get(end.reason, "The server has ended")
    return Diagnosis(stage, words, refusal=end, retry_elsewhere=again, node=pod.node)


def _end_of(pod: PodView) -> tuple[Refusal, bool]:
    technical = f"pod {pod.phase}: {pod.reason} {pod.message}"
    target = pod.conditions.get("DisruptionTarget")
    disrupted = target.reason if target is not None and target.true else ""
    if pod.reason in _NOT_ADMITTED or pod.reason.startswith("OutOf"):
        return refusals.not_admitted(technical), True
    if pod.reason in _NODE_ENDED or disrupted in _NODE_DISRUPTION:
        return refusals.node_deleted(technical), False
    if pod.reason in ("Evicted", "Preempting", "Preempted") or disrupted in _EVICTIONS:
        why = _pressure(pod.message) or _EVICTIONS.get(disrupted) or "the machine was short of resources"
        return refusals.evicted(why, technical), False
    return _container_end(pod, technical), False


def _container_end(pod: PodView, technical: str) -> Refusal:
    problem = crash_problem(pod, StartPolicy(crashes=1))
    if problem is not None and problem.refusal is not None:
        return problem.refusal
    return refusals.crash(1, "", technical)


def _deletion_of(snapshot: StartSnapshot, pod: PodView, node: NodeView | None) -> Refusal:
    target = pod.conditions.get("DisruptionTarget")
    reason = target.reason if target is not None and target.true else ""
    gone = bool(pod.node) and snapshot.nodes is not None and (node is None or node.deleting or node.disrupted)
    if gone or reason in _NODE_DISRUPTION:
        return refusals.node_deleted(f"node {pod.node} is gone or going; {reason}")
    if reason in _EVICTIONS:
        return refusals.evicted(_EVICTIONS[reason], f"{reason}: {target.message if target else ''}")
    return refusals.pod_deleted()


def _node_trouble(
    snapshot: StartSnapshot, pod: PodView, node: NodeView | None, since: float, policy: StartPolicy
) -> Diagnosis | None:
    if snapshot.nodes is None or not pod.node:
        return None
    if node is None:
        if snapshot.now - since <= _NODE_SEEN_S:
            return None
        return Diagnosis(
            Stage.STARTING, "The machine is gone", refusal=refusals.node_deleted(f"node {pod.node} does not exist")
        )
    if node.deleting:
        end = refusals.node_deleted(f"node {pod.node} is being deleted")
        return Diagnosis(Stage.STARTING, "The machine is being taken away", refusal=end)
    ready = node.conditions.get("Ready")
    if node.ready or ready is None or ready.since is None:
        return None
    silent = snapshot.now - ready.since
    if silent <= policy.not_registering_s:
        return None
    technical = f"node {pod.node} not ready for {silent:.0f} s: {ready.reason} {ready.message}"
    return Diagnosis(Stage.STARTING, "The machine does not respond", refusal=refusals.node_deleted(technical))


def _pressure(message: str) -> str:
    text = message.lower()
    if "exceed" in text and ("ephemeral" in text or "emptydir" in text):
        return "it used more disk than it may"
    if "ephemeral-storage" in text or "disk" in text or "imagefs" in text or "nodefs" in text or "inodes" in text:
        return "the machine's disk is full"
    return "the machine ran out of memory" if "memory" in text else ""
