"""Every stage and every end of a start, from what the cluster shows."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from facts import (
    CAPACITY_TYPE,
    GPU_COUNT,
    GPU_NAME,
    IMAGE,
    NOW,
    SLOT,
    SPOT,
    SPOT_FIRST,
    claim,
    conditions,
    event,
    landed,
    launched,
    node,
    node_pool,
    pod,
    registered,
    snapshot,
    volume,
)
from gpu_launcher.domain.outcomes import RefusalReason
from gpu_launcher.domain.stage import Stage, StartKind
from gpu_launcher.domain.start import OwnServer, Shortage, ShortageKind, StartPolicy, StartSnapshot
from gpu_launcher.domain.views import Condition, ContainerView, Expression
from gpu_launcher.explain.diagnosis import Diagnosis, diagnose

POLICY = StartPolicy()
LIMITS = {"limits": {"nvidia.com/gpu": 4.0}, "used": {"nvidia.com/gpu": 4.0}}
KARPENTER = "Failed to schedule pod, "


def shortage(
    ago: float, way: str = "on-demand", kind: ShortageKind = ShortageKind.CAPACITY, **changes: object
) -> Shortage:
    plain = Shortage(kind, NOW - ago, "gpu", claim(ways=(way,)), (), ("us-east-1a",), (way,))
    return replace(plain, **changes)  # type: ignore[arg-type]


def container(state: str, reason: str = "", **changes: object) -> ContainerView:
    return ContainerView("notebook", state, reason, **changes)  # type: ignore[arg-type]


def scheduler_says(text: str, age: float) -> dict[str, Condition]:
    return {"PodScheduled": Condition("PodScheduled", "False", "Unschedulable", text, NOW - age)}


STAGES: dict[str, tuple[StartSnapshot, Stage, str]] = {
    "no pod yet": (snapshot(), Stage.QUEUED, "Asking the cluster"),
    "not looked at": (snapshot(pod(1, conditions={})), Stage.QUEUED, "scheduler"),
    "no machine": (snapshot(pod()), Stage.FINDING_CAPACITY, "Looking"),
    "a machine asked for": (snapshot(pod(), claims=(claim(),)), Stage.LAUNCHING, "Asking the cloud"),
    "a machine launched": (
        snapshot(pod(70), claims=(launched(),)),
        Stage.BOOTING,
        r"Machine g5.xlarge started \(us-east-1b\)",
    ),
    "a node not ready": (snapshot(pod(70), claims=(registered(),)), Stage.BOOTING, "g5.xlarge"),
    "no GPU yet": (snapshot(pod(70), claims=(registered(why="ResourceNotRegistered"),)), Stage.GPU_DRIVER, "driver"),
    "no GPU on the node": (
        snapshot(
            pod(70),
            claims=(registered(why="StartupTaintsExist"),),
            nodes=(node(20, initialized=False, gpus_advertised=False),),
        ),
        Stage.GPU_DRIVER,
        "driver",
    ),
    "room": (snapshot(pod(2, conditions={}), nodes=(node(),)), Stage.SCHEDULING, "ready"),
    "a new node": (
        snapshot(
            pod(70),
            nodes=(node(5),),
            claims=(registered(20, conditions=conditions(3, Launched=True, Initialized=True)),),
        ),
        Stage.SCHEDULING,
        "ready",
    ),
    "a slot that the controller saw": (
        snapshot(pod(2), ready_slots=1, node_pools=(node_pool(**LIMITS),)),
        Stage.SCHEDULING,
        "ready",
    ),
    "somebody's own new node": (
        snapshot(pod(), node_pools=(), nodes=(node(30, node_pool="", ready=False),)),
        Stage.BOOTING,
        "g5.xlarge",
    ),
    "full machines that nobody sells": (
        snapshot(pod(300), node_pools=(), nodes=(node(node_pool=""),), node_pods=(landed(uid="other"),)),
        Stage.FINDING_CAPACITY,
        "in use",
    ),
    "a volume attaching": (
        snapshot(landed(), nodes=(node(),), volumes=(volume(),)),
        Stage.VOLUME,
        "Attaching",
    ),
    "a pull": (snapshot(landed(), nodes=(node(),), events=(event("Pulling"),)), Stage.PULLING_IMAGE, "Pulling"),
    "a pull without events": (
        snapshot(landed(conditions=conditions(20, PodScheduled=True, PodReadyToStartContainers=True)), nodes=(node(),)),
        Stage.PULLING_IMAGE,
        "Pulling",
    ),
    "placed a moment ago": (snapshot(landed(1)), Stage.SCHEDULING, "container"),
    "pulled": (snapshot(landed(1), events=(event("Pulling"), event("Pulled"))), Stage.STARTING, "container"),
    "no network yet": (snapshot(landed(), events=(event("FailedCreatePodSandBox"),)), Stage.STARTING, "container"),
    "an init container": (
        snapshot(landed(init_containers=(ContainerView("chown", "running"),))),
        Stage.STARTING,
        "Preparing",
    ),
    "a server that starts": (
        snapshot(landed(phase="Running", containers=(container("running", started_at=NOW - 3),))),
        Stage.SERVER_ANSWERING,
        "Starting the server",
    ),
    "a server that ended once": (
        snapshot(landed(phase="Running", containers=(container("running", restarts=1),))),
        Stage.SERVER_ANSWERING,
        "ended by itself once",
    ),
    "a server that answers": (
        snapshot(landed(phase="Running", containers=(container("running"),)), server_answered=True),
        Stage.SERVER_ANSWERING,
        "answers",
    ),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_told(name: str) -> None:
    facts, stage, words = STAGES[name]
    found = diagnose(facts, POLICY)
    assert (found.stage, found.refusal) == (stage, None)
    assert re.search(words, found.words), found


ENDS: dict[str, tuple[StartSnapshot, RefusalReason]] = {
    "test_k4 on-demand": (snapshot(pod(300), shortages=(shortage(250),)), RefusalReason.CAPACITY),
    "test_k4 claim not seen": (snapshot(pod(300), shortages=(shortage(250, claim=None),)), RefusalReason.CAPACITY),
    "test_k4 after a restart of the hub": (
        snapshot(
            pod(300),
            events=(
                event(
                    "FailedScheduling",
                    f"{KARPENTER}no instance type which met the scheduling requirements and had enough resources, had "
                    "a required offering, requirements=x",
                    ago=260,
                ),
            ),
        ),
        RefusalReason.CAPACITY,
    ),
    "test_k19": (snapshot(pod(300), shortages=(shortage(250, kind=ShortageKind.QUOTA),)), RefusalReason.CLOUD_QUOTA),
    "test_k5": (snapshot(pod(400), claims=(launched(370, 360),)), RefusalReason.NODE_NOT_REGISTERING),
    "test_k5 node never ready": (snapshot(pod(400), claims=(registered(310),)), RefusalReason.NODE_NOT_REGISTERING),
    "test_k5 the cloud only errs": (
        snapshot(pod(300), claims=(claim(250, conditions=conditions(250, Launched="LaunchFailed: no such role")),)),
        RefusalReason.NODE_NOT_REGISTERING,
    ),
    "test_k6": (
        snapshot(pod(400), claims=(registered(200, why="ResourceNotRegistered"),)),
        RefusalReason.GPU_NOT_ADVERTISED,
    ),
    "test_k7 limit": (snapshot(pod(6), node_pools=(node_pool(**LIMITS),)), RefusalReason.POOL_LIMIT),
    "test_k7 limit of a host with eight": (
        snapshot(
            pod(6, node_selector={GPU_COUNT: "8"}),
            node_pools=(node_pool(limits={"nvidia.com/gpu": 12.0}, used={"nvidia.com/gpu": 8.0}),),
        ),
        RefusalReason.POOL_LIMIT,
    ),
    "test_k7 limit that Karpenter tells": (
        snapshot(
            pod(20),
            node_pools=(node_pool(limits={"cpu": 100.0}, used={"cpu": 90.0}),),
            events=(event("FailedScheduling", f"{KARPENTER}all available instance types exceed limits for nodepool"),),
        ),
        RefusalReason.POOL_LIMIT,
    ),
    "test_k7 limit beside a machine that others use": (
        snapshot(pod(20), nodes=(node(),), node_pools=(node_pool(**LIMITS),)),
        RefusalReason.POOL_LIMIT,
    ),
    "test_k7 gone": (snapshot(pod(12), node_pools=()), RefusalReason.NO_NODE_POOL),
    "test_k7 being deleted": (snapshot(pod(12), node_pools=(node_pool(deleting=True),)), RefusalReason.NO_NODE_POOL),
    "test_k7 not ready": (
        snapshot(pod(2), node_pools=(node_pool(conditions=conditions(60, Ready=False)),)),
        RefusalReason.NO_NODE_POOL,
    ),
    "test_k7 class": (
        snapshot(pod(2), node_pools=(node_pool(conditions=conditions(60, Ready=False, NodeClassReady=False)),)),
        RefusalReason.NODE_CLASS,
    ),
    "test_k16 label that no NodePool has": (snapshot(pod(12, node_selector={"team": "x"})), RefusalReason.NO_NODE_POOL),
    "test_k16 label that the provider does not have": (
        snapshot(pod(12, node_selector={"karpenter.k8s.aws/instance-gpu-nam": "a10g"})),
        RefusalReason.NO_NODE_POOL,
    ),
    "test_k16 value that no machine has": (
        snapshot(
            pod(40),
            events=(
                event(
                    "FailedScheduling",
                    f'{KARPENTER}incompatible with nodepool "gpu", no instance type met all requirements',
                    ago=20,
                ),
            ),
        ),
        RefusalReason.UNSCHEDULABLE,
    ),
    "zone of the home": (
        snapshot(
            pod(12),
            node_pools=(node_pool(requirements=(Expression("topology.kubernetes.io/zone", "In", ("b",)),)),),
            volumes=(volume(zones=("a",)),),
        ),
        RefusalReason.NO_NODE_POOL,
    ),
    "volume not bound": (
        snapshot(pod(130, conditions=scheduler_says("pod has unbound immediate PersistentVolumeClaims", 130))),
        RefusalReason.VOLUME,
    ),
    "volume missing": (
        snapshot(pod(130, conditions=scheduler_says('persistentvolumeclaim "claim-ada" not found', 130))),
        RefusalReason.VOLUME,
    ),
    "test_k18 other node": (
        snapshot(landed(130), nodes=(node(),), volumes=(volume(attached_to=("n2",)),)),
        RefusalReason.VOLUME_ATTACHED_ELSEWHERE,
    ),
    "test_k18 told by an event": (
        snapshot(landed(130), volumes=None, events=(event("FailedAttachVolume", "Multi-Attach error for volume"),)),
        RefusalReason.VOLUME_ATTACHED_ELSEWHERE,
    ),
    "test_k18 own server": (
        snapshot(
            landed(15),
            volumes=(volume(attached_to=("n2",)),),
            own_servers=(OwnServer("train", "n2", ("claim-ada",)),),
        ),
        RefusalReason.HOME_IN_USE,
    ),
    "volume not mounted": (
        snapshot(landed(130), volumes=(volume(attached_to=("n1",)),), events=(event("FailedMount", "exit status 32"),)),
        RefusalReason.VOLUME,
    ),
    "image name": (snapshot(landed(containers=(container("waiting", "InvalidImageName"),))), RefusalReason.IMAGE),
    "image not found, twice": (
        snapshot(
            landed(15, containers=(container("waiting", "ErrImagePull"),)),
            events=(event("Failed", f'Failed to pull image "{IMAGE}": {IMAGE}: not found', count=2),),
        ),
        RefusalReason.IMAGE,
    ),
    "image failing for long": (
        snapshot(
            landed(80, containers=(container("waiting", "ImagePullBackOff", message="i/o timeout"),)),
            events=(event("Failed", "Failed to pull image: i/o timeout", ago=70),),
        ),
        RefusalReason.IMAGE,
    ),
    "image failing without events": (
        snapshot(landed(130, containers=(container("waiting", "ImagePullBackOff"),))),
        RefusalReason.IMAGE,
    ),
    "crash loop": (
        snapshot(landed(containers=(container("waiting", "CrashLoopBackOff", restarts=2, last_exit_code=1),))),
        RefusalReason.CRASH,
    ),
    "crash loop that runs again": (
        snapshot(landed(phase="Running", containers=(container("running", restarts=3),))),
        RefusalReason.CRASH,
    ),
    "crash for good": (
        snapshot(landed(phase="Failed", containers=(container("terminated", "OOMKilled", exit_code=137),))),
        RefusalReason.CRASH,
    ),
    "end without an error": (
        snapshot(landed(phase="Succeeded", containers=(container("terminated", "Completed", exit_code=0),))),
        RefusalReason.CRASH,
    ),
    "missing secret": (
        snapshot(landed(70, containers=(container("waiting", "CreateContainerConfigError"),))),
        RefusalReason.CRASH,
    ),
    "test_k17": (
        snapshot(landed(phase="Failed", reason="Evicted", message="The node was low on resource: ephemeral-storage.")),
        RefusalReason.EVICTED,
    ),
    "drained": (
        snapshot(
            landed(
                deleting=True,
                conditions={"DisruptionTarget": Condition("DisruptionTarget", "True", "EvictionByEvictionAPI")},
            )
        ),
        RefusalReason.EVICTED,
    ),
    "not admitted": (
        snapshot(landed(phase="Failed", reason="UnexpectedAdmissionError")),
        RefusalReason.ADMISSION_ERROR,
    ),
    "not admitted for want of CPU": (
        snapshot(landed(phase="Failed", reason="OutOfcpu")),
        RefusalReason.ADMISSION_ERROR,
    ),
    "test_h8 deleted": (snapshot(pod_seen=True), RefusalReason.POD_DELETED),
    "test_h8 deleted with its machine": (snapshot(pod_seen=True, last_node="n1", nodes=()), RefusalReason.NODE_DELETED),
    "test_h8 deleted, machines unknown": (
        snapshot(pod_seen=True, last_node="n1", nodes=None),
        RefusalReason.POD_DELETED,
    ),
    "test_h8 being deleted": (snapshot(landed(deleting=True), nodes=(node(),)), RefusalReason.POD_DELETED),
    "node gone": (snapshot(landed(), nodes=()), RefusalReason.NODE_DELETED),
    "node being deleted": (snapshot(landed(1), nodes=(node(deleting=True),)), RefusalReason.NODE_DELETED),
    "node shut down": (snapshot(landed(phase="Failed", reason="Terminated")), RefusalReason.NODE_DELETED),
    "node silent": (
        snapshot(landed(400), nodes=(node(ready=False, conditions=conditions(310, Ready="NodeStatusUnknown")),)),
        RefusalReason.NODE_DELETED,
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_an_end_is_told_with_its_reason(name: str) -> None:
    facts, reason = ENDS[name]
    found = diagnose(facts, POLICY)
    assert found.refusal is not None, found
    assert found.refusal.reason is reason, found
    message = found.refusal.message
    assert 20 <= len(message) <= 600
    assert message.endswith(".")
    for jargon in (r"[A-Z]\w+(Error|BackOff|Exceeded)\b", r"NodeClaim|NodePool", r"[{}<>]", r"\btimeout\b", "None"):
        assert not re.search(jargon, message), message
    assert found.retry_elsewhere is (reason is RefusalReason.ADMISSION_ERROR)


NOT_YET: dict[str, StartSnapshot] = {
    "test_k4 for a short while": snapshot(pod(100), shortages=(shortage(90),)),
    "test_k4 spot only, for a spot-first pod": snapshot(
        pod(300, node_affinity=((SPOT_FIRST,),)), shortages=(shortage(290, "spot"),)
    ),
    "test_k4 another pool's": snapshot(pod(300), shortages=(shortage(290, node_pool="cpu"),)),
    "test_k4 other machines of the same pool": snapshot(
        pod(300), shortages=(shortage(290, claim=claim(requirements=(Expression(GPU_NAME, "In", ("h100",)),))),)
    ),
    "test_k4 long ago": snapshot(pod(300), shortages=(shortage(900),)),
    "test_k4 before a machine that was launched since": snapshot(
        pod(250), shortages=(shortage(300),), claims=(launched(260, 255), launched(20, 15, name="gpu-2", uid="c2"))
    ),
    "test_k5 for a while": snapshot(pod(300), claims=(launched(290, 280),)),
    "test_k5 a machine that was asked for by somebody else": snapshot(pod(20), claims=(launched(400, 390),)),
    "test_k6 a machine that was asked for by somebody else": snapshot(
        pod(20), claims=(registered(300, why="ResourceNotRegistered"),)
    ),
    "test_k7 with a ready slot": snapshot(pod(60), node_pools=(node_pool(**LIMITS),), ready_slots=1),
    "test_k7 with a claim on its way": snapshot(pod(60), node_pools=(node_pool(**LIMITS),), claims=(claim(),)),
    "test_k7 with a node that has just come": snapshot(pod(60), node_pools=(node_pool(**LIMITS),), nodes=(node(5),)),
    "test_k7 while a machine goes": snapshot(
        pod(60), node_pools=(node_pool(**LIMITS),), claims=(launched(deleting=True),)
    ),
    "test_k7 with another pool": snapshot(pod(60), node_pools=(node_pool(**LIMITS), node_pool("more"))),
    "test_k7 for a moment": snapshot(pod(1), node_pools=(node_pool(**LIMITS),)),
    "test_k7 not ready for a moment": snapshot(pod(60), node_pools=(node_pool(conditions=conditions(5, Ready=False)),)),
    "test_k7 Karpenter has not looked": snapshot(pod(60), node_pools=(node_pool(conditions={}),)),
    "test_k7 a machine is there all the same": snapshot(pod(3, conditions={}), node_pools=(), nodes=(node(),)),
    "test_k13": snapshot(landed(3000), nodes=(node(),), events=(event("Pulling", ago=2990),)),
    "an image failed once": snapshot(
        landed(600, containers=(container("waiting", "ErrImagePull"),)),
        events=(event("Failed", "Failed to pull image"),),
    ),
    "two crashes": snapshot(landed(containers=(container("waiting", "CrashLoopBackOff", restarts=1),))),
    "the other server is just stopping": snapshot(
        landed(30),
        volumes=(volume(attached_to=("n2",)),),
        own_servers=(OwnServer("train", "n2", ("claim-ada",)),),
        node_pods=(landed(uid="other", node="n2", deleting=True),),
    ),
    "the other server is on the same machine": snapshot(
        landed(30),
        nodes=(node(),),
        volumes=(volume(attached_to=("n1",)),),
        own_servers=(OwnServer("train", "n1", ("claim-ada",)),),
    ),
    "volumes on any machine": snapshot(
        landed(300), nodes=(node(),), volumes=(volume(access_modes=("ReadWriteMany",), attached_to=("n2",)),)
    ),
    "a pod before its node is seen": snapshot(landed(1), nodes=()),
}


@pytest.mark.parametrize("name", NOT_YET)
def test_what_may_still_succeed_goes_on(name: str) -> None:
    found = diagnose(NOT_YET[name], POLICY)
    assert found.refusal is None, found


def test_k4_spot_that_has_none_is_told_as_tried() -> None:
    found = diagnose(NOT_YET["test_k4 spot only, for a spot-first pod"], POLICY)
    assert found.tried == ("Spot had none in us-east-1a",)
    assert found.words == "Spot had none, looking for on-demand"
    only_spot = pod(300, node_affinity=((SPOT,),))
    end = diagnose(snapshot(only_spot, shortages=(shortage(250, "spot"),)), POLICY).refusal
    assert end is not None
    assert end.reason is RefusalReason.CAPACITY
    assert "Spot had none in us-east-1a" in end.message


def test_k4_a_shortage_holds_for_a_start_that_comes_after_it() -> None:
    before = (shortage(500), shortage(320), shortage(310))
    found = diagnose(snapshot(pod(200), shortages=before), POLICY)
    assert found.words == "The cloud has none now, it is asked again"
    # The attempt's own patience, and the shortage's own beginning.
    assert found.refusal is None
    assert found.since == NOW - 500
    end = diagnose(snapshot(pod(245), shortages=before), POLICY).refusal
    assert end is not None
    assert end.detail["since"] == NOW - 500


def test_k4_a_capacity_of_two_kinds_names_the_one_that_decides() -> None:
    spot_first = pod(300, node_affinity=((SPOT_FIRST,),))
    both = (shortage(290, "spot"), shortage(280, kind=ShortageKind.QUOTA))
    end = diagnose(snapshot(spot_first, shortages=both), POLICY).refusal
    assert end is not None
    assert end.reason is RefusalReason.CLOUD_QUOTA


def test_k7_a_claim_that_the_node_class_undid_is_no_shortage() -> None:
    undone = shortage(290, claim=claim(290))
    pool = node_pool(conditions=conditions(280, Ready=True, NodeClassReady=True))
    assert diagnose(snapshot(pod(300), shortages=(undone,), node_pools=(pool,)), POLICY).tried == ()


def test_k18_the_other_server_is_named_at_once() -> None:
    facts = snapshot(
        landed(3), volumes=(volume(attached_to=("n2",)),), own_servers=(OwnServer("train", "n2", ("claim-ada",)),)
    )
    found = diagnose(facts, POLICY)
    assert (found.stage, found.refusal) == (Stage.VOLUME, None)
    assert 'your server "train"' in found.words
    end = diagnose(ENDS["test_k18 own server"][0], POLICY).refusal
    assert end is not None
    assert end.detail["server"] == "train"


def test_k18_a_lost_machine_is_told() -> None:
    lost = diagnose(ENDS["test_k18 other node"][0], POLICY).refusal
    assert lost is not None
    assert "machine that is gone" in lost.message
    alive = snapshot(landed(130), nodes=(node(), node(name="n2")), volumes=(volume(attached_to=("n2",)),))
    other = diagnose(alive, POLICY).refusal
    assert other is not None
    assert "another machine" in other.message


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        (snapshot(pod()), StartKind.COLD),
        (snapshot(landed(), nodes=(node(images=((IMAGE,),)),)), StartKind.WARM),
        (snapshot(landed(), nodes=(node(),)), StartKind.LUKEWARM),
        (snapshot(landed(), nodes=(node(images_complete=False),)), StartKind.UNKNOWN),
        (snapshot(landed(20), nodes=(node(25),)), StartKind.COLD),
        (snapshot(landed(20), nodes=None), StartKind.UNKNOWN),
        (
            snapshot(
                landed(), nodes=(node(),), events=(event("Pulled", f'image "{IMAGE}" already present on machine'),)
            ),
            StartKind.WARM,
        ),
        # A pull that has ended has put the image on the node, and stays a pull.
        (
            snapshot(
                landed(),
                nodes=(node(images=((IMAGE,),)),),
                events=(event("Pulling", f'Pulling image "{IMAGE}"'), event("Pulled", f'pulled image "{IMAGE}" in 9s')),
            ),
            StartKind.LUKEWARM,
        ),
        (
            snapshot(landed(9, containers=(container("running", started_at=NOW - 7),)), nodes=(node(),)),
            StartKind.WARM,
        ),
        (
            snapshot(landed(60, containers=(container("running", started_at=NOW - 7),)), nodes=(node(),)),
            StartKind.UNKNOWN,
        ),
    ],
)
def test_k13_the_kind_of_a_start(facts: StartSnapshot, kind: StartKind) -> None:
    assert diagnose(facts, POLICY).kind is kind


def test_unknown_facts_are_named_and_end_nothing() -> None:
    blind = snapshot(pod(5000), nodes=None, claims=None, node_pools=None, volumes=None, node_pods=None)
    found = diagnose(blind, POLICY)
    assert found.refusal is None
    assert len(found.unknown) == 4


def test_the_machine_is_named() -> None:
    found = diagnose(STAGES["a machine launched"][0], POLICY)
    assert (found.instance_type, found.zone, found.capacity_type) == ("g5.xlarge", "us-east-1b", "on-demand")
    found = diagnose(snapshot(landed(), nodes=(node(),)), POLICY)
    assert (found.node, found.instance_type) == ("n1", "g5.xlarge")


def test_many_that_wait_each_get_their_own_machine() -> None:
    waiting = tuple(pod(50 - i, uid=f"p{i}", name=f"p{i}") for i in range(3))
    claims = (launched(40, 35, name="c0", uid="c0"), claim(30, name="c1", uid="c1"))
    stages = [diagnose(snapshot(one, claims=claims, node_pods=waiting), POLICY).stage for one in waiting]
    assert stages == [Stage.BOOTING, Stage.LAUNCHING, Stage.FINDING_CAPACITY]
    named = (event("Nominated", "Pod should schedule on: nodeclaim/c0"),)
    assert diagnose(snapshot(waiting[2], claims=claims, node_pods=waiting, events=named), POLICY).stage is Stage.BOOTING
    shared = (launched(40, 35, requests=SLOT.times(2)),)
    stages = [diagnose(snapshot(one, claims=shared, node_pods=waiting), POLICY).stage for one in waiting]
    assert stages == [Stage.BOOTING, Stage.BOOTING, Stage.FINDING_CAPACITY]


def test_a_free_machine_goes_to_whom_waits_longest() -> None:
    waiting = tuple(pod(50 - i, uid=f"p{i}", name=f"p{i}") for i in range(2))
    stages = [diagnose(snapshot(one, nodes=(node(5),), node_pods=waiting), POLICY).stage for one in waiting]
    assert stages == [Stage.SCHEDULING, Stage.FINDING_CAPACITY]


def test_the_ways_to_buy_follow_pod_and_pool() -> None:
    spot_pool = node_pool(requirements=(Expression(CAPACITY_TYPE, "In", ("spot",)),))
    spot_first = pod(300, node_affinity=((SPOT_FIRST,),))
    end = diagnose(snapshot(spot_first, node_pools=(spot_pool,), shortages=(shortage(250, "spot"),)), POLICY).refusal
    assert end is not None, "a pool that sells spot only has nothing to fall back to"


def said(found: Diagnosis) -> str:
    return f"{found.words} {found.detail} {found.refusal.message if found.refusal else ''}"


def test_foreign_texts_stay_short_and_plain() -> None:
    wild = "\x1b[31m\u202e" + "x" * 5000
    facts = snapshot(
        landed(containers=(container("waiting", "InvalidImageName"),), images=(wild,)),
        own_servers=(OwnServer(wild, "n2"),),
    )
    text = said(diagnose(facts, POLICY))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert len(text) < 800
