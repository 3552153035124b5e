"""Which machines a pod can run on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from facts import (
    CAPACITY_TYPE,
    GPU_COUNT,
    GPU_NAME,
    SLOT,
    SPOT,
    TYPE,
    ZONE,
    claim,
    conditions,
    launched,
    node,
    node_pool,
    pod,
    snapshot,
    volume,
)
from gpu_launcher.domain.resources import Resources
from gpu_launcher.domain.views import Expression, NodeView, PodView
from gpu_launcher.explain.matching import (
    claims_of,
    coming_for,
    compatible,
    could_serve,
    least_gpus,
    serves,
    ways_to_buy,
    with_room,
)

MEMORY = "karpenter.k8s.aws/instance-gpu-memory"


@pytest.mark.parametrize(
    ("wish", "offered", "fits"),
    [
        (("In", "a", "b"), ("In", "b", "c"), True),
        (("In", "a"), ("In", "b"), False),
        (("In", "a"), ("NotIn", "a"), False),
        (("In", "a"), ("NotIn", "b"), True),
        (("In", "a"), ("Exists",), True),
        (("In", "a"), ("DoesNotExist",), False),
        (("NotIn", "a"), ("In", "a"), False),
        (("NotIn", "a"), ("In", "a", "b"), True),
        (("NotIn", "a"), ("NotIn", "b"), True),
        (("NotIn", "a"), ("DoesNotExist",), True),
        (("Exists",), ("In", "a"), True),
        (("Exists",), ("DoesNotExist",), False),
        (("DoesNotExist",), ("In", "a"), False),
        (("DoesNotExist",), ("DoesNotExist",), True),
        (("Gt", "22887"), ("In", "22888"), True),
        (("Gt", "22888"), ("In", "22888"), False),
        (("Lt", "5"), ("In", "x"), False),
        (("Gt", "5"), ("Lt", "9"), True),
        (("Gt", "5"), ("Lt", "6"), False),
        (("Gte", "22888"), ("In", "22888"), True),
        (("Lte", "22887"), ("In", "22888"), False),
        (("Odd", "5"), ("In", "9"), True),
    ],
)
def test_a_wish_and_a_requirement(wish: tuple[str, ...], offered: tuple[str, ...], fits: bool) -> None:
    asked = pod(node_selector={}, node_affinity=((Expression(MEMORY, wish[0], wish[1:]),),))
    assert compatible(asked, (Expression(MEMORY, offered[0], offered[1:]),)) is fits


@pytest.mark.parametrize(
    ("key", "fits"),
    [
        (MEMORY, True),
        (ZONE, True),
        (TYPE, True),
        ("kubernetes.io/arch", True),
        ("topology.k8s.aws/zone-id", True),
        ("cloud.google.com/gke-accelerator", True),
        ("karpenter.kwok.sh/instance-family", True),
        ("node-restriction.kubernetes.io/team", False),
        ("team", False),
        ("nvidia.com/gpu.product", False),
        ("karpenter.k8s.aws/instance-gpu-nam", False),
    ],
)
def test_k16_a_label_that_nobody_named_must_come_with_the_machine(key: str, fits: bool) -> None:
    asked = pod(node_selector={key: "x"}, node_affinity=())
    assert compatible(asked, ()) is fits
    assert compatible(asked, (Expression(key, "In", ("x",)),)), "a NodePool may name any label"
    assert not compatible(asked, {}), "a node has the labels that it has"
    assert compatible(asked, {key: "x"})


def test_any_term_is_enough_and_all_of_it_is_needed() -> None:
    either = pod(node_affinity=((Expression(ZONE, "In", ("a",)),), (Expression(ZONE, "In", ("b",)), SPOT)))
    assert compatible(either, (Expression(ZONE, "In", ("a",)),))
    assert compatible(either, (Expression(ZONE, "In", ("b",)), SPOT))
    assert not compatible(either, (Expression(ZONE, "In", ("b",)), Expression(CAPACITY_TYPE, "In", ("on-demand",))))


def test_wishes_for_one_label_hold_together() -> None:
    both = pod(node_selector={ZONE: "a"}, node_affinity=((Expression(ZONE, "In", ("b",)),),))
    assert not compatible(both, (Expression(ZONE, "In", ("a", "b")),))
    assert not compatible(both, ())
    assert not compatible(both, {ZONE: "a"})


def test_a_volume_asks_for_its_zone() -> None:
    offered = (Expression(ZONE, "In", ("us-east-1a",)),)
    assert compatible(pod(), offered)
    assert not compatible(pod(), offered, (volume(),))
    assert compatible(pod(), offered, (volume(zones=()),))


def test_a_pool_needs_its_taints_tolerated() -> None:
    assert serves(pod(), node_pool())
    assert not serves(pod(), node_pool(taint_keys=frozenset({"team"})))
    assert serves(pod(toleration_keys=frozenset({""})), node_pool(taint_keys=frozenset({"team"})))
    assert serves(pod(node_selector={"team": "x"}), node_pool(labels={"team": "x"}))
    assert not serves(pod(node_selector={"karpenter.sh/nodepool": "other"}), node_pool())


def has_room(one: PodView, there: NodeView, others: tuple[PodView, ...]) -> bool:
    return with_room(one, snapshot(one, nodes=(there,), node_pods=others)) == (there,)


def test_room_on_a_node() -> None:
    assert has_room(pod(), node(), ())
    assert not has_room(pod(), node(), (pod(uid="other", node="n1"),))
    assert has_room(pod(), node(), (pod(uid="other", node="n1", phase="Failed"),))
    assert has_room(pod(), node(allocatable=SLOT.times(2)), (pod(uid="other", node="n1"),))
    for wrong in (
        {"ready": False},
        {"initialized": False},
        {"gpus_advertised": False},
        {"deleting": True},
        {"disrupted": True},
        {"unschedulable": True},
        {"labels": {}},
        {"allocatable": Resources()},
        {"taint_keys": frozenset({"karpenter.sh/unregistered"})},
    ):
        assert not has_room(pod(), node(**wrong), ())


def test_a_node_that_starts_could_serve() -> None:
    new = node(
        ready=False,
        initialized=False,
        gpus_advertised=False,
        allocatable=replace(SLOT, gpus=0),
        taint_keys=frozenset({"nvidia.com/gpu", "karpenter.sh/unregistered", "node.kubernetes.io/not-ready"}),
    )
    assert could_serve(pod(), new)
    assert not could_serve(pod(), replace(new, taint_keys=frozenset({"team"})))


def test_the_claims_of_a_pod() -> None:
    def names(*claims: object) -> list[str]:
        return [one.name for one in claims_of(pod(), snapshot(pod(), claims=claims))]  # type: ignore[arg-type]

    assert names(claim()) == ["gpu-abcde"]
    assert names() == []
    assert names(claim(deleting=True)) == []
    assert names(claim(requests=Resources(100))) == []
    assert names(claim(requirements=(Expression(GPU_NAME, "In", ("h100",)),))) == []
    assert names(launched(conditions=conditions(5, Launched=True, Initialized=True))) == []
    assert names(claim(5, name="young", uid="2"), claim(15, name="old")) == ["old"]


def test_others_claims_are_on_their_way_all_the_same() -> None:
    older = pod(60, uid="older")
    facts = snapshot(pod(), claims=(claim(),), node_pods=(older, pod()))
    assert claims_of(pod(), facts) == ()
    assert len(coming_for(pod(), facts)) == 1


def test_the_gpus_of_the_host() -> None:
    assert least_gpus(pod()) == 1
    assert least_gpus(pod(node_selector={GPU_COUNT: "8"})) == 8
    assert least_gpus(pod(node_selector={}, node_affinity=((Expression(GPU_COUNT, "In", ("4", "8", "x")),),))) == 4
    assert least_gpus(pod(requests=Resources(gpus=2), node_selector={})) == 2


def test_the_ways_to_buy() -> None:
    assert ways_to_buy(pod(), [node_pool()]) == {"on-demand"}
    assert ways_to_buy(pod(node_affinity=((SPOT,),)), [node_pool()]) == {"spot"}
    assert ways_to_buy(pod(node_affinity=()), [node_pool(requirements=())]) == {"spot", "on-demand", "reserved"}
    assert ways_to_buy(pod(), []) == frozenset()
