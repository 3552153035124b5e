"""The table of faults: what is done to the cluster, what must be said of it, and how the start must end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from causes import (
    Cause,
    container,
    ended_before,
    launched,
    node_gone,
    node_without_gpu,
    pod_failed,
    pod_going,
    refused_by_the_cloud,
    the_pod,
    told_by_event,
    waiting,
)
from fault_site import ALL, ON_DEMAND, Site
from gpu_launcher.cluster.paths import core, group
from launcher import StartStream
from provisioning import eventually

NEW_MACHINE_S = 35

STARTS = {
    "no_capacity": "40s",
    "not_registering": "15s",
    "gpu_missing": "12s",
    "volume": "10s",
    "image": "8s",
    "crashes": 3,
}
NO_CAPACITY_S, NOT_REGISTERING_S, GPU_MISSING_S, VOLUME_S, IMAGE_S = 40, 15, 12, 10, 8
# How long a state of the NodePools must last before it is believed.
SETTLED_S = 15
HUGE_S = 25

POOLS = {
    "plain": (["g4dn.xlarge"], ON_DEMAND),
    "ice": (["g6e.2xlarge"], ALL),
    "nospot": (["g6e.4xlarge"], ALL),
    "quota": (["g6e.8xlarge"], ON_DEMAND),
    "lost": (["g6e.16xlarge"], ON_DEMAND),
    "silent": (["g4dn.2xlarge"], ON_DEMAND),
    "limited": (["g4dn.xlarge"], ON_DEMAND),
    "free": (["g4dn.xlarge"], ON_DEMAND),
    "gone": (["g4dn.xlarge"], ON_DEMAND),
    "invalid": (["g4dn.xlarge"], ON_DEMAND),
    "classless": (["g4dn.xlarge"], ON_DEMAND),
}
PROFILES: dict[str, dict[str, Any]] = {
    "ice": {"pool": "ice", "gpu": "l40s", "capacity": "spot-first"},
    "nospot": {"pool": "nospot", "gpu": "l40s", "capacity": "spot-first"},
    "quota": {"pool": "quota", "gpu": "l40s"},
    "lost": {"pool": "lost", "gpu": "l40s"},
    **{name: {"pool": name} for name in ("plain", "silent", "limited", "free", "gone", "invalid", "classless")},
    **{name: {"pool": "plain"} for name in ("broken", "huge", "early", "late", "evicted", "slow", "unaccepted")},
}


Before = Callable[[Site], Awaitable[None]]
During = Callable[[Site, StartStream], Awaitable[None]]


async def nothing(*_: Any) -> None:
    """The fault is there already."""


async def reach_the_limit(site: Site) -> None:
    """Let another team's pod hold the only GPU that the pool may have.

    The hub cannot see that pod: for half a minute it takes a new machine for one that may still be free.
    """
    pool = site.pools["limited"]
    await pool.running(await pool.pod())

    async def settled() -> bool:
        [node] = await pool.nodes()
        made = datetime.fromisoformat(node["metadata"]["creationTimestamp"])
        return (datetime.now(UTC) - made).total_seconds() > NEW_MACHINE_S

    await eventually(settled, NEW_MACHINE_S + 30, "the machine is no new one any more")
    await site.node_pool("limited", {"limits": {"nvidia.com/gpu": "1"}})


async def leave_a_free_machine(site: Site) -> None:
    """Bring the pool to its limit with a machine that nobody uses."""
    pool = site.pools["free"]
    name = await pool.pod()
    await pool.running(name)
    await site.node_pool("free", {"limits": {"nvidia.com/gpu": "1"}})
    await site.api.delete(core("pods", namespace="default", name=name))


async def delete_the_pool(site: Site) -> None:
    """Delete the NodePool that the profile names."""
    path = group("karpenter.sh/v1", "nodepools", name=site.pools["gone"].name)
    await site.api.delete(path)


async def invalidate_the_pool(site: Site) -> None:
    """Give the NodePool a label that only the cloud may set: Karpenter turns it away."""
    label = {"template": {"metadata": {"labels": {"karpenter.k8s.aws/invented": "yes"}}}}
    await site.node_pool("invalid", label, condition="Ready")


async def break_the_class(site: Site) -> None:
    """Let the node class say that it is not ready."""
    await site.break_node_class("classless")


async def attach_elsewhere(site: Site) -> None:
    """Let another machine hold the user's home."""
    namespace = site.namespace
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}}
    await site.api.post(
        core("persistentvolumeclaims", namespace=namespace), {"metadata": {"name": "claim-home-held"}, "spec": spec}
    )
    holder = {
        "nodeSelector": {"fault-site": namespace},
        "tolerations": [{"operator": "Exists"}],
        "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "claim-home-held"}}],
        "containers": [
            {"name": "main", "image": "lab/pause", "volumeMounts": [{"name": "home", "mountPath": "/home/jovyan"}]}
        ],
    }
    await site.api.post(core("pods", namespace=namespace), {"metadata": {"name": "holder"}, "spec": holder})

    async def runs() -> bool:
        pod = await site.api.get(core("pods", namespace=namespace, name="holder"))
        return bool(pod["status"].get("phase") == "Running")

    await eventually(runs, 30, "the pod that holds the home runs")


async def start_another_server(site: Site) -> None:
    """Let the user's other server use the home."""
    first = await site.launcher.start("home-twins", "plain", "train")
    await first.ready(60)


async def delete_the_pod(site: Site, stream: StartStream) -> None:
    """Delete the pod behind the hub's back, once it is on its machine."""
    await stream.stage("pulling_image", 40)
    [pod] = await site.pods_of(stream)
    await site.api.delete(core("pods", namespace=site.namespace, name=pod["metadata"]["name"]))


async def lose_the_machine(site: Site, stream: StartStream) -> None:
    """Take the machine away while the image is on its way."""
    await stream.stage("pulling_image", 40)
    [pod] = await site.pods_of(stream)
    await site.lose_machine(pod["spec"]["nodeName"])


@dataclass(frozen=True)
class Case:
    """A fault, and what is promised about it."""

    id: str
    profile: str
    reason: str
    """Of the refusal; "" where the start succeeds all the same."""
    cause: Cause
    says: str
    """What the page says within 5 s of the cause, as a pattern."""
    stage: str = ""
    """The stage that it says it in; "" for any."""
    message: str = "."
    """What the refusal says, as a pattern."""
    bound_s: float = 0
    """How long after its cause the start is given up; PROMISED_S is added."""
    user: str = ""
    before: Before = nothing
    during: During = nothing


CASES = [
    Case(
        "k4-ice", "ice", "capacity", refused_by_the_cloud("ice"), r"Spot had none", "launching",
        r"Spot had none.*On-demand had none", NO_CAPACITY_S,
    ),
    Case("k4-spot", "nospot", "", refused_by_the_cloud("nospot"), r"Spot had none", bound_s=30),
    Case(
        "k19-quota", "quota", "cloud_quota", refused_by_the_cloud("quota"), r"account may not have more",
        "launching", r"cloud account may not have more machines", NO_CAPACITY_S,
    ),
    Case(
        "k5-never-registers", "lost", "node_not_registering", launched, r"Machine g6e.16xlarge started", "booting",
        r"has not joined the cluster", NOT_REGISTERING_S,
    ),
    Case(
        "k6-gpu-silent", "silent", "gpu_not_advertised", node_without_gpu, r"GPU driver", "gpu_driver",
        r"has not reported a GPU", GPU_MISSING_S,
    ),
    Case(
        "k7-limit", "limited", "pool_limit", the_pod, r"limit on machines for this profile", "",
        r"limit is reached", SETTLED_S, before=reach_the_limit,
    ),
    Case("k7-limit-with-a-free-slot", "free", "", the_pod, r"machine is ready|server", bound_s=SETTLED_S,
         before=leave_a_free_machine),
    Case(
        "k7-gone", "gone", "no_node_pool", the_pod, r"No machines for this profile are set up", "finding_capacity",
        r"has no machines for this profile", SETTLED_S, before=delete_the_pool,
    ),
    Case(
        "k7-not-ready", "invalid", "no_node_pool", the_pod, r"switched off", "finding_capacity", r"switched off",
        SETTLED_S, before=invalidate_the_pool,
    ),
    Case(
        "k7-class", "classless", "node_class", the_pod, r"New machines cannot be made", "finding_capacity",
        r"settings in the cloud are not valid", SETTLED_S, before=break_the_class,
    ),
    Case(
        "image-not-found", "broken", "image", waiting("ErrImagePull|ImagePullBackOff"), r"cannot be pulled",
        "pulling_image", r"example.org/broken:1 cannot be pulled: there is no image", IMAGE_S,
    ),
    Case("k13-image-huge", "huge", "", told_by_event("Pulling"), r"Pulling the image", "pulling_image",
         bound_s=HUGE_S + 5),
    Case(
        "crash-before-ready", "early", "crash", container(ended_before), r"ended by itself",
        message=r"ended by itself 3 times", bound_s=25,
    ),
    Case(
        "crash-after-ready", "late", "crash", container(ended_before), r"ended by itself",
        message=r"ended by itself 3 times", bound_s=30, user="silent-late",
    ),
    Case(
        "pod-deleted", "slow", "pod_deleted", pod_going, r"deleted", message=r"not by this hub", user="deleted",
        during=delete_the_pod,
    ),
    Case(
        "node-deleted", "slow", "node_deleted", node_gone, r"machine (is gone|is being taken|was taken)",
        message=r"machine was taken away", user="machineless", during=lose_the_machine,
    ),
    Case(
        "k17-evicted", "evicted", "evicted", pod_failed, r"had to leave", message=r"disk is full",
        user="silent-evicted",
    ),
    Case(
        "admission", "unaccepted", "admission_error", pod_failed, r"did not accept", message=r"did not accept",
        bound_s=40,
    ),
    Case(
        "k18-attached-elsewhere", "plain", "volume_attached_elsewhere", told_by_event("FailedAttachVolume"),
        r"files, which another machine still has", "volume", r"still attached to another machine", VOLUME_S,
        "home-held", before=attach_elsewhere,
    ),
    Case(
        "k18-home-in-use", "plain", "home_in_use", told_by_event("FailedAttachVolume"),
        r'files, which your server "train" uses', "volume", r'in use by your server "train"', VOLUME_S, "home-twins",
        before=start_another_server,
    ),
]  # fmt: skip
