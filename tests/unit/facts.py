"""Builders of views with defaults, so that a diagnosis's test says only what it is about. Times are around NOW."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gpu_launcher.domain.profile import Capacity
from gpu_launcher.domain.quantity import GIB
from gpu_launcher.domain.resources import Resources
from gpu_launcher.domain.start import StartSnapshot
from gpu_launcher.domain.views import (
    Condition,
    ContainerView,
    EventView,
    Expression,
    NodeClaimView,
    NodePoolView,
    NodeView,
    PodView,
    VolumeView,
)

NOW = 1_790_000_000.0
GPU_NAME = "karpenter.k8s.aws/instance-gpu-name"
GPU_COUNT = "karpenter.k8s.aws/instance-gpu-count"
CAPACITY_TYPE = "karpenter.sh/capacity-type"
ZONE = "topology.kubernetes.io/zone"
TYPE = "node.kubernetes.io/instance-type"
SLOT = Resources(3500, 13 * GIB, 50 * GIB, 1)
IMAGE = "quay.io/team/torch:1"

ON_DEMAND = Expression(CAPACITY_TYPE, "NotIn", ("spot",))
SPOT_FIRST = Expression(CAPACITY_TYPE, "In", ("spot", "on-demand", "reserved"))
SPOT = Expression(CAPACITY_TYPE, "In", ("spot",))


def conditions(ago: float = 100.0, **states: Any) -> dict[str, Condition]:
    """Conditions by type: True, False, or the reason of an unknown one; all since *ago* seconds."""
    found = {}
    for kind, state in states.items():
        if isinstance(state, str):
            reason, _, message = state.partition(": ")
            found[kind] = Condition(kind, "Unknown", reason, message, NOW - ago)
        else:
            found[kind] = Condition(kind, str(state), since=NOW - ago)
    return found


def pod(age: float = 20.0, **changes: Any) -> PodView:
    """A pending pod that wants one A10G on-demand; the scheduler has said that there is none."""
    told = Condition("PodScheduled", "False", "Unschedulable", "0/1 nodes are available", NOW - age)
    plain = PodView(
        namespace="hub",
        name="jupyter-ada",
        uid="pod-1",
        created_at=NOW - age,
        phase="Pending",
        conditions={"PodScheduled": told},
        images=(IMAGE,),
        requests=SLOT,
        node_selector={GPU_NAME: "a10g", GPU_COUNT: "1", "kubernetes.io/arch": "amd64"},
        node_affinity=((ON_DEMAND,),),
        toleration_keys=frozenset({"nvidia.com/gpu"}),
        claims=("claim-ada",),
    )
    return replace(plain, **changes)


def landed(age: float = 20.0, **changes: Any) -> PodView:
    """The pod on node n1 for *age* seconds, its container being created."""
    return pod(
        age + 10,
        **{
            "node": "n1",
            "conditions": conditions(age, PodScheduled=True),
            "containers": (ContainerView("notebook", "waiting", "ContainerCreating"),),
            **changes,
        },
    )


def node(age: float = 600.0, **changes: Any) -> NodeView:
    """A ready g5.xlarge with its GPU free and without the image."""
    plain = NodeView(
        name="n1",
        uid="node-1",
        created_at=NOW - age,
        ready=True,
        initialized=True,
        conditions=conditions(age, Ready=True),
        taint_keys=frozenset({"nvidia.com/gpu"}),
        labels={
            "karpenter.sh/nodepool": "gpu",
            GPU_NAME: "a10g",
            GPU_COUNT: "1",
            "kubernetes.io/arch": "amd64",
            CAPACITY_TYPE: "on-demand",
            ZONE: "us-east-1b",
            TYPE: "g5.xlarge",
        },
        allocatable=SLOT,
        gpus_advertised=True,
        instance_type="g5.xlarge",
        zone="us-east-1b",
        capacity_type="on-demand",
        node_pool="gpu",
    )
    return replace(plain, **changes)


def claim(age: float = 10.0, ways: tuple[str, ...] = ("on-demand",), **changes: Any) -> NodeClaimView:
    """A NodeClaim that waits for the cloud."""
    plain = NodeClaimView(
        name="gpu-abcde",
        uid="claim-1",
        created_at=NOW - age,
        node_pool="gpu",
        requests=SLOT,
        requirements=(
            Expression(GPU_NAME, "In", ("a10g",)),
            Expression(GPU_COUNT, "In", ("1",)),
            Expression("kubernetes.io/arch", "In", ("amd64",)),
            Expression(CAPACITY_TYPE, "In", ways),
            Expression(TYPE, "In", ("g5.xlarge", "g5.2xlarge")),
        ),
        conditions=conditions(age, Launched="AwaitingReconciliation: object is awaiting reconciliation"),
    )
    return replace(plain, **changes)


def launched(age: float = 60.0, ago: float = 55.0, **changes: Any) -> NodeClaimView:
    """A NodeClaim whose machine was launched *ago* seconds and has not joined the cluster."""
    states = conditions(ago, Launched=True, Registered="NodeNotFound: Node not registered with cluster")
    plain = claim(age, conditions=states, instance_type="g5.xlarge", zone="us-east-1b", capacity_type="on-demand")
    return replace(plain, **changes)


def registered(ago: float = 20.0, why: str = "NodeNotReady", **changes: Any) -> NodeClaimView:
    """A NodeClaim whose node has joined *ago* seconds and is not initialized yet."""
    states = conditions(ago + 30, Launched=True) | conditions(ago, Registered=True, Initialized=why)
    return replace(launched(ago + 40, ago + 30), node="n1", **{"conditions": states, **changes})


def node_pool(name: str = "gpu", **changes: Any) -> NodePoolView:
    """A ready NodePool for anything with an NVIDIA GPU, spot and on-demand."""
    plain = NodePoolView(
        name=name,
        conditions=conditions(9000, Ready=True, NodeClassReady=True),
        requirements=(
            Expression("karpenter.k8s.aws/instance-gpu-manufacturer", "In", ("nvidia",)),
            Expression(CAPACITY_TYPE, "In", ("spot", "on-demand")),
        ),
        taint_keys=frozenset({"nvidia.com/gpu"}),
        labels={"karpenter.sh/nodepool": name},
    )
    return replace(plain, **changes)


def event(reason: str, message: str = "", ago: float = 5.0, **changes: Any) -> EventView:
    """An event about the pod, seen once."""
    plain = EventView("Pod", "jupyter-ada", "pod-1", reason, message, NOW - ago, NOW - ago)
    return replace(plain, **changes)


def volume(**changes: Any) -> VolumeView:
    """The bound home of the pod, a disk in us-east-1b."""
    plain = VolumeView("claim-ada", "Bound", "pv-1", ("us-east-1b",), ("ReadWriteOnce",))
    return replace(plain, **changes)


def snapshot(the_pod: PodView | None = None, **changes: Any) -> StartSnapshot:
    """A start with a ready NodePool and nothing wrong; no machine, but for a pod that is on one."""
    asked = changes.pop("asked", None)
    if asked is None:
        asked = (the_pod.created_at or NOW) - 1 if the_pod is not None else NOW - 1
    plain = StartSnapshot(
        now=NOW,
        asked_at=asked,
        capacity=Capacity.ON_DEMAND,
        gpus=1,
        pod=the_pod,
        nodes=(node(),) if the_pod is not None and the_pod.node else (),
        claims=(),
        node_pools=(node_pool(),),
        volumes=(),
        node_pods=(the_pod,) if the_pod else (),
    )
    return replace(plain, **changes)
