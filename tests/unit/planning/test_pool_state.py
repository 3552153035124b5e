"""Pool state: ready, starting and used slots, by image; what is unknown or cannot be bought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.domain.policy import ClusterPolicy, Prices
from gpu_launcher.domain.pool_state import PoolState
from gpu_launcher.domain.profile import Capacity, GpuRequest
from gpu_launcher.domain.resources import Resources
from gpu_launcher.domain.start import Shortage, ShortageKind
from gpu_launcher.domain.views import Condition, Expression, NodeClaimView, NodePoolView, NodeView, PodView
from gpu_launcher.planning.dialects import labels_of
from gpu_launcher.planning.pool_history import PoolHistory
from gpu_launcher.planning.pool_state import pool_states
from gpu_launcher.planning.pools import pools_for
from gpu_launcher.planning.served import ServedPool, served_pools
from machines import CATALOGUE, JAX, TORCH, cpu_profile, gpu_profile

POLICY = ClusterPolicy()
KINDS = {kind.name: kind for kind in CATALOGUE}
NOW = 1_000_000.0
GPU_TAINT = frozenset({"nvidia.com/gpu"})

ONE = gpu_profile("a10g", images=(TORCH, JAX), spot_choice=True)
SHARED = gpu_profile("shared", gpu=GpuRequest("a10g", host_gpus=(4,)), images=(TORCH,))
CPU = cpu_profile()


def served(*profiles: Any) -> dict[str, ServedPool]:
    return served_pools(profiles, pools_for(profiles, CATALOGUE, POLICY), POLICY)


POOLS = served(ONE, SHARED, CPU)


def node(name: str = "n1", kind: str = "g5.xlarge", **changes: Any) -> NodeView:
    """A ready machine with one image: PyTorch."""
    machine = KINDS[kind]
    view = NodeView(
        name=name,
        ready=True,
        initialized=True,
        taint_keys=GPU_TAINT if machine.gpus else frozenset(),
        labels=labels_of(machine, POLICY.dialect) | {"karpenter.sh/capacity-type": "on-demand"},
        allocatable=replace(machine.allocatable, ephemeral=POLICY.disk_bytes),
        gpus_advertised=machine.gpus > 0,
        images=((f"{TORCH.reference.rpartition(':')[0]}@sha256:0", TORCH.reference),),
        instance_type=kind,
    )
    return replace(view, **changes)


def pod(name: str = "p1", pool: str = "a10g-1", **changes: Any) -> PodView:
    """A session of one slot that waits for a node."""
    view = PodView("jupyter", name, phase="Pending", requests=POOLS[pool].pool.slot)
    return replace(view, **({"labels": {"gpu-launcher/pool": pool}} | changes))


def claim(name: str = "c1", kind: str = "g5.xlarge", capacity: str = "on-demand", **changes: Any) -> NodeClaimView:
    """A machine that was launched 20 s ago."""
    view = NodeClaimView(
        name=name,
        created_at=NOW - 30,
        requests=Resources(3500, 2**33, 0, KINDS[kind].gpus and 1),
        requirements=(Expression("karpenter.k8s.aws/instance-gpu-name", "In", ("a10g",)),) if KINDS[kind].gpus else (),
        conditions={"Launched": Condition("Launched", "True", since=NOW - 20)},
        instance_type=kind,
        capacity_type=capacity,
    )
    return replace(view, **changes)


def node_pool(name: str = "gpu", **changes: Any) -> NodePoolView:
    view = NodePoolView(name, conditions={"Ready": Condition("Ready", "True")}, taint_keys=GPU_TAINT)
    return replace(view, **changes)


def state(
    pool: str = "a10g-1",
    nodes: Sequence[NodeView] = (),
    pods: Sequence[PodView] = (),
    claims: Sequence[NodeClaimView] | None = (),
    node_pools: Sequence[NodePoolView] | None = None,
    history: PoolHistory | None = None,
) -> PoolState:
    found = pool_states(nodes, pods, claims, node_pools, POOLS, NOW, history or PoolHistory(), Prices())
    assert set(found) == set(POOLS)
    return found[pool]


def test_every_way_in_which_a_profile_can_buy_is_a_pool() -> None:
    assert set(POOLS) == {"a10g-1", "a10g-1-spot-first", "a10g-4", "cpu-2-6gi"}


def test_an_empty_cluster_has_nothing_and_says_so() -> None:
    empty = state()
    assert (empty.ready, empty.starting, empty.in_use) == ({"": 0, TORCH.reference: 0, JAX.reference: 0}, 0, 0)
    assert empty.usd_per_hour == pytest.approx(1.006)
    assert empty.usd_per_hour_spot == pytest.approx(1.006 * 0.4)
    assert (empty.lead, empty.no_capacity_since, empty.unavailable) == (None, None, "")


def test_a_free_machine_is_a_ready_slot_for_the_images_on_it() -> None:
    assert state(nodes=[node()]).ready == {"": 1, TORCH.reference: 1, JAX.reference: 0}


def test_an_image_missing_from_a_full_list_is_unknown() -> None:
    assert state(nodes=[node(images_complete=False)]).ready == {"": 1, TORCH.reference: 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"ready": False},
        {"initialized": False},
        {"disrupted": True},
        {"deleting": True},
        {"unschedulable": True},
        {"gpus_advertised": False},
        {"taint_keys": GPU_TAINT | {"example.org/other"}},
        {"allocatable": Resources(500, 2**30, 2**40, 1)},
        {"labels": {}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_machine_that_takes_no_session_is_no_ready_slot(changes: dict[str, Any]) -> None:
    assert state(nodes=[node(**changes)]).ready[""] == 0


def test_a_session_takes_its_slot_and_gives_it_back() -> None:
    nodes, running = [node()], pod(node="n1", phase="Running")
    held = state(nodes=nodes, pods=[running])
    assert (held.ready[""], held.in_use) == (0, 1)
    # Until it is gone a session that stops still holds its GPU.
    assert state(nodes=nodes, pods=[replace(running, deleting=True)]).ready[""] == 0
    ended = state(nodes=nodes, pods=[replace(running, phase="Succeeded")])
    assert (ended.ready[""], ended.in_use) == (1, 0)


def test_a_foreign_pod_takes_room_too() -> None:
    foreign = PodView("other", "x", node="n1", phase="Running", requests=Resources(gpus=1))
    found = state(nodes=[node()], pods=[foreign])
    assert (found.ready[""], found.in_use) == (0, 0)


def test_a_shared_machine_has_as_many_slots_as_are_free() -> None:
    nodes = [node(kind="g5.12xlarge")]
    assert state("a10g-4", nodes).ready[""] == 4
    assert state("a10g-4", nodes, [pod(pool="a10g-4", node="n1", phase="Running")]).ready[""] == 3


def test_on_demand_serves_spot_first_and_spot_does_not_serve_on_demand() -> None:
    assert state("a10g-1-spot-first", [node()]).ready[""] == 1
    spot = node(labels=node().labels | {"karpenter.sh/capacity-type": "spot"})
    assert state("a10g-1", [spot]).ready[""] == 0


def test_a_machine_on_its_way_is_starting_until_it_is_ready() -> None:
    assert state(claims=[claim()]).starting == 1
    assert state("a10g-4", claims=[claim(kind="g5.12xlarge")]).starting == 4
    # The node is there, its GPUs are not: still one machine, not two.
    there = claim(node="n1", conditions={"Registered": Condition("Registered", "True")})
    coming = state(nodes=[node(initialized=False, gpus_advertised=False)], claims=[there])
    assert (coming.ready[""], coming.starting) == (0, 1)
    done = replace(there, conditions={"Initialized": Condition("Initialized", "True", since=NOW)})
    assert (state(nodes=[node()], claims=[done]).ready[""], state(nodes=[node()], claims=[done]).starting) == (1, 0)


@pytest.mark.parametrize(
    "other", [claim(deleting=True), claim(kind="m6i.xlarge"), claim(capacity="spot"), claim(kind="g6.xlarge")]
)
def test_a_machine_that_will_not_serve_the_pool_is_not_starting_for_it(other: NodeClaimView) -> None:
    assert state(claims=[other]).starting == 0


def test_what_somebody_waits_for_is_promised_to_nobody_else() -> None:
    assert state(pods=[pod()], claims=[claim()]).starting == 0
    assert state("a10g-4", pods=[pod(pool="a10g-4")], claims=[claim(kind="g5.12xlarge")]).starting == 3
    # It waits for its own machine, and the ready one is free.
    waits = state(nodes=[node()], pods=[pod()], claims=[claim()])
    assert (waits.ready[""], waits.starting) == (1, 0)
    # Nothing is on its way: the scheduler is about to take the ready one.
    assert state(nodes=[node()], pods=[pod()]).ready[""] == 0
    # And in every pool that could have had it.
    assert state("a10g-1-spot-first", pods=[pod()], claims=[claim()]).starting == 0


def test_before_its_type_is_known_a_machine_has_only_what_it_was_asked_for() -> None:
    asked = claim(instance_type="", capacity_type="", requests=POOLS["a10g-1"].pool.slot, conditions={})
    assert state(claims=[asked]).starting == 1
    assert state(claims=[asked], pods=[pod()]).starting == 0


def test_a_large_session_holds_several_slots() -> None:
    slot = POOLS["a10g-4"].pool.slot
    big = pod(pool="a10g-4", node="n1", phase="Running", requests=slot.times(3))
    found = state("a10g-4", [node(kind="g5.12xlarge")], [big])
    assert (found.in_use, found.ready[""]) == (3, 1)


@pytest.mark.parametrize(
    ("node_pools", "words"),
    [
        (None, ""),
        ([], "no NodePool of this cluster can serve it"),
        ([node_pool()], ""),
        ([node_pool(conditions={})], ""),
        ([node_pool(deleting=True)], "no NodePool of this cluster can serve it"),
        ([node_pool(taint_keys=frozenset({"example.org/other"}))], "no NodePool of this cluster can serve it"),
        (
            [node_pool(requirements=(Expression("karpenter.k8s.aws/instance-gpu-name", "In", ("t4",)),))],
            "no NodePool of this cluster can serve it",
        ),
        (
            [node_pool(conditions={"Ready": Condition("Ready", "False")})],
            "NodePool gpu is not ready to buy machines",
        ),
        (
            [node_pool(limits={"nvidia.com/gpu": 8}, used={"nvidia.com/gpu": 8})],
            "the limit of NodePool gpu is reached",
        ),
        ([node_pool(limits={"nvidia.com/gpu": 8}, used={"nvidia.com/gpu": 7})], ""),
        ([node_pool(limits={"cpu": 10}, used={"cpu": 8})], "the limit of NodePool gpu is reached"),
        ([node_pool(limits={"nvidia.com/gpu": 0}), node_pool("second")], ""),
    ],
)
def test_why_nothing_can_be_bought(node_pools: list[NodePoolView] | None, words: str) -> None:
    assert state(node_pools=node_pools).unavailable == words


def _ready_after(name: str, seconds: float) -> NodeClaimView:
    done = Condition("Initialized", "True", since=NOW)
    return claim(name, uid=name, created_at=NOW - seconds, conditions={"Initialized": done}, node=name)


def test_lead_times_come_from_machines_that_became_usable() -> None:
    history = PoolHistory()
    for seconds in range(10, 110, 10):
        history = history.seen([_ready_after(f"c{seconds}", seconds), claim("coming")], POOLS)
    # Seen again in every look: still one machine each.
    history = history.seen([_ready_after(f"c{seconds}", seconds) for seconds in range(10, 110, 10)], POOLS)
    lead = state(history=history).lead
    assert lead is not None
    assert (lead.p50_s, lead.p90_s, lead.count) == (50, 90, 10)
    assert state("cpu-2-6gi", history=history).lead is None


def test_only_the_newest_lead_times_are_kept() -> None:
    history = PoolHistory().seen([_ready_after(f"c{number:03}", 10) for number in range(500)], POOLS)
    assert history.lead("a10g-1") is not None
    assert len(history.leads["a10g-1"]) == 50


def shortage(at: float, kind: ShortageKind = ShortageKind.CAPACITY, **changes: Any) -> Shortage:
    lost = claim(instance_type="", capacity_type="", conditions={}, requirements=changes.pop("requirements", ()))
    return Shortage(kind, at, "gpu", lost, **changes)


def test_k4_no_capacity_since_the_first_of_the_misses_until_a_launch() -> None:
    misses = tuple(shortage(NOW - ago) for ago in (300, 200, 100, 10))
    history = PoolHistory(shortages=misses)
    assert state(history=history).no_capacity_since == NOW - 300
    assert state("cpu-2-6gi", history=history).no_capacity_since is None
    # A machine was launched 20 s ago: only what was missed since counts.
    assert state(history=history.seen([claim()], POOLS)).no_capacity_since == NOW - 10
    # Nobody has asked for a quarter of an hour: not known any more.
    assert state(history=PoolHistory(shortages=(shortage(NOW - 1000),))).no_capacity_since is None


def test_k4_spot_alone_is_no_shortage_of_a_pool_that_may_buy_on_demand() -> None:
    only_spot = PoolHistory(shortages=(shortage(NOW - 10, capacity_types=("spot",)),))
    assert state("a10g-1-spot-first", history=only_spot).no_capacity_since is None
    asked = (Expression("karpenter.sh/capacity-type", "In", ("spot",)),)
    assert state(history=PoolHistory(shortages=(shortage(NOW - 10, requirements=asked),))).no_capacity_since is None


def test_k4_spot_and_then_on_demand_is_a_shortage_of_spot_first() -> None:
    ways = (shortage(NOW - 200, capacity_types=("spot",)), shortage(NOW - 150, capacity_types=("on-demand",)))
    history = PoolHistory(shortages=(*ways, shortage(NOW - 20, capacity_types=("on-demand",))))
    assert state("a10g-1-spot-first", history=history).no_capacity_since == NOW - 150
    assert state(history=history).no_capacity_since == NOW - 150


def test_k4_what_is_reserved_being_used_up_says_nothing_of_how_else_it_was_asked_for() -> None:
    asked = (Expression("karpenter.sh/capacity-type", "In", ("on-demand", "reserved")),)
    history = PoolHistory(shortages=(shortage(NOW - 5, requirements=asked, capacity_types=("reserved",)),))
    assert state(history=history).no_capacity_since == NOW - 5


def test_a_quota_is_no_shortage_but_makes_the_pool_unavailable() -> None:
    found = state(node_pools=[node_pool()], history=PoolHistory(shortages=(shortage(NOW - 9, ShortageKind.QUOTA),)))
    assert found.no_capacity_since is None
    assert found.unavailable == "the cloud account may not have more such machines"


def test_a_shortage_known_by_its_event_alone_counts_where_all_types_are_named() -> None:
    types = tuple(kind.name for kind in POOLS["a10g-1"].pool.instance_types)
    history = PoolHistory(shortages=(Shortage(ShortageKind.CAPACITY, NOW - 5, "gpu", instance_types=types),))
    assert state(history=history).no_capacity_since == NOW - 5
    assert state("a10g-4", history=history).no_capacity_since is None


def test_a_reserved_pool_only_misses_what_is_reserved() -> None:
    pools = served(gpu_profile("r", "a10g", capacity=Capacity.RESERVED))
    history = PoolHistory(shortages=(shortage(NOW - 5, capacity_types=("on-demand",)),))
    found = pool_states([], [], [], None, pools, NOW, history, Prices())
    assert found["a10g-1-reserved"].no_capacity_since is None


kinds = st.sampled_from(["g5.xlarge", "g5.12xlarge", "m6i.4xlarge"])
machines_of = st.lists(kinds, max_size=4)
pods_of = st.lists(
    st.tuples(st.sampled_from(sorted(POOLS)), st.sampled_from(["", "n0", "n1", "gone"]), st.booleans()), max_size=8
)


@given(machines_of, machines_of, pods_of)
def test_slots_are_never_negative_nor_promised_twice(
    ready: list[str], coming: list[str], sessions: list[tuple[str, str, bool]]
) -> None:
    nodes = [node(f"n{number}", kind) for number, kind in enumerate(ready)]
    claims = [claim(f"c{number}", kind) for number, kind in enumerate(coming)]
    pods = [
        pod(f"p{number}", pool, node=where, phase="Succeeded" if ended else "Pending")
        for number, (pool, where, ended) in enumerate(sessions)
    ]
    found = pool_states(nodes, pods, claims, [], POOLS, NOW, PoolHistory(), Prices())
    alone = pool_states(nodes, [], claims, [], POOLS, NOW, PoolHistory(), Prices())
    for key, one in found.items():
        assert min([*one.ready.values(), one.starting, one.in_use]) >= 0
        assert all(count <= one.ready[""] for count in one.ready.values())
        free, all_free = one.ready[""] + one.starting, alone[key].ready[""] + alone[key].starting
        assert free <= all_free
        holding = sum(1 for one_pod in pods if one_pod.labels["gpu-launcher/pool"] == key and not one_pod.ended)
        assert one.in_use <= holding
