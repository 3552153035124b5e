"""Whatever the cluster shows, a diagnosis is made, and some promises hold for every one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from facts import (
    NOW,
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
from gpu_launcher.domain.start import OwnServer, Shortage, ShortageKind, StartPolicy, StartSnapshot
from gpu_launcher.domain.views import Condition, ContainerView
from gpu_launcher.explain.diagnosis import diagnose

AGES = st.sampled_from([0.0, 1.0, 8.0, 20.0, 70.0, 200.0, 500.0, 5000.0])
# What a cluster says, and what no cluster should.
TEXTS = st.one_of(
    st.sampled_from(
        [
            "",
            "Failed to schedule pod, all available instance types exceed limits for nodepool",
            "Failed to schedule pod, no instance type met all requirements, requirements={}",
            "Multi-Attach error for volume",
            "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
            'Failed to pull image "x": not found',
            "Pod should schedule on: nodeclaim/gpu-abcde, node/n1",
            "{0} %s {detail} \x00\u202e",
        ]
    ),
    st.text(max_size=40),
)
REASONS = st.one_of(
    st.sampled_from(
        [
            "",
            "Nominated",
            "FailedScheduling",
            "FailedAttachVolume",
            "FailedMount",
            "Failed",
            "Pulling",
            "Pulled",
            "BackOff",
            "ErrImagePull",
            "ImagePullBackOff",
            "CrashLoopBackOff",
            "ContainerCreating",
            "CreateContainerError",
            "Evicted",
            "UnexpectedAdmissionError",
            "OutOfmemory",
            "Unschedulable",
            "SchedulingGated",
        ]
    ),
    st.text(max_size=10),
)
TYPES = ("PodScheduled", "PodReadyToStartContainers", "DisruptionTarget", "Ready", "Initialized", "Registered")


@st.composite
def condition_maps(draw: st.DrawFn) -> dict[str, Condition]:
    chosen = draw(st.lists(st.sampled_from((*TYPES, "Launched", "NodeClassReady")), max_size=4, unique=True))
    return {
        kind: Condition(
            kind,
            draw(st.sampled_from(["True", "False", "Unknown", ""])),
            draw(REASONS),
            draw(TEXTS),
            draw(st.one_of(st.none(), AGES.map(lambda age: NOW - age))),
        )
        for kind in chosen
    }


CONTAINERS = st.builds(
    ContainerView,
    name=st.sampled_from(["notebook", "side", ""]),
    state=st.sampled_from(["", "waiting", "running", "terminated"]),
    reason=REASONS,
    message=TEXTS,
    restarts=st.integers(0, 6),
    exit_code=st.one_of(st.none(), st.integers(-1, 300)),
    started_at=st.one_of(st.none(), AGES.map(lambda age: NOW - age)),
    last_reason=REASONS,
    last_exit_code=st.one_of(st.none(), st.integers(0, 300)),
)
# Most things are well most of the time, or no snapshot would get past the first trouble.
SELDOM = st.sampled_from([False] * 9 + [True])
FLAGS: dict[str, Any] = {"deleting": SELDOM}


def varied(base: Any, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A view whose named fields are sometimes other than usual."""
    choice = st.fixed_dictionaries({}, optional=fields)
    return choice.map(lambda changes: replace(base, **changes))


AT = st.one_of(st.none(), AGES.map(lambda age: NOW - age))
POD_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "created_at": AT,
    "phase": st.sampled_from([*["Pending", "Running"] * 5, "", "Failed", "Succeeded", "Unknown"]),
    "reason": REASONS,
    "message": TEXTS,
    "conditions": condition_maps(),
    "containers": st.lists(CONTAINERS, max_size=2).map(tuple),
    "init_containers": st.lists(CONTAINERS, max_size=1).map(tuple),
    "images": st.sampled_from([(), ("",), ("quay.io/team/torch:1",), ("\x00@:/",)]),
    "node_affinity": st.sampled_from([(), ((SPOT,),), ((SPOT_FIRST,),), ((),)]),
    "deleting": SELDOM,
}
PODS = st.one_of(
    *(varied(base, **POD_FIELDS) for base in (pod(), pod(300), landed(), landed(200))),
    # Pods without a node that nothing else is wrong with.
    *(
        varied(base, conditions=condition_maps(), node_affinity=POD_FIELDS["node_affinity"])
        for base in (pod(9), pod(300))
    ),
)
CLAIMS = st.sampled_from([claim(), launched(), registered(), registered(why="ResourceNotRegistered")]).flatmap(
    lambda base: varied(base, created_at=AT, conditions=condition_maps(), requirements=st.just(()), **FLAGS)
)
NODES = varied(
    node(), created_at=AT, ready=st.booleans(), initialized=st.booleans(), conditions=condition_maps(),
    gpus_advertised=st.booleans(), node_pool=st.sampled_from(["gpu", ""]), labels=st.just({}), **FLAGS,
)  # fmt: skip
POOLS = varied(
    node_pool(), conditions=condition_maps(), limits=st.just({"nvidia.com/gpu": 1.0}),
    used=st.just({"nvidia.com/gpu": 1.0}), requirements=st.just(()), **FLAGS,
)  # fmt: skip
SHORTAGES = st.builds(
    Shortage,
    kind=st.sampled_from(ShortageKind),
    at=AGES.map(lambda age: NOW - age),
    node_pool=st.sampled_from(["gpu", ""]),
    claim=st.one_of(st.none(), CLAIMS),
    zones=st.sampled_from([(), ("us-east-1a",)]),
    capacity_types=st.sampled_from([(), ("spot",), ("on-demand",), ("odd",)]),
)
EVENTS = st.builds(event, REASONS, TEXTS, AGES)
FEW = {"max_size": 2}


@st.composite
def snapshots(draw: st.DrawFn) -> StartSnapshot:
    the_pod = draw(PODS) if draw(st.integers(0, 19)) else None

    def some(what: st.SearchStrategy[Any]) -> Any:
        return draw(st.one_of(st.none(), st.lists(what, max_size=2).map(tuple)))

    return snapshot(
        the_pod,
        asked=NOW - draw(AGES),
        pod_seen=draw(st.booleans()),
        server_answered=draw(st.booleans()),
        nodes=some(NODES),
        claims=some(CLAIMS),
        node_pools=some(POOLS),
        volumes=some(varied(volume(), attached_to=st.just(("n2",)), phase=st.just("Lost"), zones=st.just(()))),
        events=draw(st.lists(EVENTS, max_size=4).map(tuple)),
        shortages=draw(st.lists(SHORTAGES, max_size=3).map(tuple)),
        node_pods=draw(st.one_of(st.none(), st.lists(PODS, max_size=2).map(tuple))),
        own_servers=draw(
            st.lists(st.builds(OwnServer, TEXTS, st.just("n2"), st.just(("claim-ada",))), max_size=1).map(tuple)
        ),
        ready_slots=draw(st.sampled_from([None, 0, 1])),
    )


@given(snapshots())
def test_every_snapshot_has_a_diagnosis_that_keeps_its_promises(facts: StartSnapshot) -> None:
    found = diagnose(facts, StartPolicy())
    assert found == diagnose(facts, StartPolicy()), "equal facts, equal words"
    assert found.words
    assert len(found.words) < 200
    assert found.words.isprintable()
    assert len(found.unknown) == [facts.nodes, facts.claims, facts.node_pools, facts.volumes].count(None)
    if found.refusal is None:
        assert not found.retry_elsewhere
        return
    assert found.refusal.message.endswith(".")
    assert found.refusal.message.isprintable()
    if facts.ready_slots:
        assert found.refusal.reason is not RefusalReason.POOL_LIMIT
    if None in (facts.nodes, facts.claims, facts.node_pools):
        assert found.refusal.reason not in (RefusalReason.POOL_LIMIT, RefusalReason.UNSCHEDULABLE)
    if facts.node_pools is None:
        assert found.refusal.reason not in (RefusalReason.NO_NODE_POOL, RefusalReason.NODE_CLASS)


@given(st.lists(EVENTS, max_size=6).map(tuple), st.sampled_from([3.0, 30.0, 3000.0]))
def test_words_of_events_alone_end_no_start_that_state_calls_well(events: Any, age: float) -> None:
    coming = snapshot(pod(age), events=events, claims=(launched(20, 10),))
    running = snapshot(
        landed(age, phase="Running", containers=(ContainerView("notebook", "running"),), ip="10.0.0.1"), events=events
    )
    pulling = snapshot(
        landed(age, ip="10.0.0.1", conditions=conditions(age, PodScheduled=True, PodReadyToStartContainers=True)),
        events=events,
    )
    for facts in (coming, running, pulling):
        assert diagnose(facts, StartPolicy()).refusal is None


@given(
    st.lists(CLAIMS, max_size=2).map(tuple),
    st.lists(NODES, max_size=2).map(tuple),
    st.sampled_from([None, 0, 1]),
    st.sampled_from([2.0, 9.0, 60.0, 900.0]),
)
def test_k7_a_limit_ends_no_start_for_which_something_is_there_or_comes(
    claims: Any, nodes: Any, slots: int | None, age: float
) -> None:
    full = node_pool(limits={"nvidia.com/gpu": 1.0}, used={"nvidia.com/gpu": 1.0})
    facts = snapshot(pod(age), node_pools=(full,), claims=claims, nodes=nodes, ready_slots=slots)
    found = diagnose(facts, StartPolicy())
    if found.refusal is not None and found.refusal.reason is RefusalReason.POOL_LIMIT:
        assert not slots
        assert age > 5
        assert not any(one for one in claims if not one.deleting and not one.reached("Initialized"))
