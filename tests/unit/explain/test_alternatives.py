"""What a user could start instead, and what they agree to in advance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.domain.policy import ClusterPolicy, Limits, Prices
from gpu_launcher.domain.pool import SlotPool
from gpu_launcher.domain.pool_state import PoolState, PublishedState
from gpu_launcher.domain.profile import Capacity, Fallback, Profile
from gpu_launcher.domain.stage import StartKind
from gpu_launcher.domain.usage import Person, RunningServer, Usage
from gpu_launcher.explain.alternatives import Alternative, alternatives, consent_words
from gpu_launcher.explain.eta import Eta
from gpu_launcher.planning.fallback import Choices
from gpu_launcher.planning.pools import pools_for
from machines import CATALOGUE, TORCH, cpu_profile, gpu_profile

NOW = 1_795_435_200.0
COLD = {"t4": 100.0, "a10g": 200.0, "l4": 130.0, "h100": 400.0}
PROFILES = (
    cpu_profile(images=(TORCH,)),
    *(gpu_profile(key, images=(TORCH,)) for key in ("a100", "t4", "a10g", "l4", "h100")),
)
READY = {"": 1, TORCH.reference: 1}


def choices(*offered: Profile) -> Choices:
    pools = pools_for(offered, CATALOGUE, ClusterPolicy())
    had = {key: pool for key, pool in pools.items() if isinstance(pool, SlotPool)}
    return Choices({one.id: one for one in offered}, had, Person("ada"))


ALL = choices(*PROFILES)


def eta(profile: Profile, kind: StartKind) -> Eta | None:
    seconds = 6.0 if kind is StartKind.WARM else COLD.get(profile.id)
    return None if seconds is None else Eta(seconds, seconds * 1.5, measured=True)


def found(
    known: Choices | None = None, states: Mapping[str, Mapping[str, Any]] | None = None, without: str = "a100"
) -> tuple[Alternative, ...]:
    """The alternatives where these profiles' pools are in these states, the others empty; None: nothing is known."""
    known = known or ALL
    published = None
    if states is not None:
        pools = {pool.id: PoolState(pool.id, **states.get(key, {})) for key, pool in known.pools.items()}
        published = PublishedState(NOW, "", pools)
    return alternatives(known, published, without, NOW, eta=eta, prices=Prices())


def ids(others: tuple[Alternative, ...]) -> list[str]:
    return [one.profile_id for one in others]


def test_ready_ones_come_first_then_by_wait() -> None:
    others = found(states={"h100": {"ready": READY}})
    assert [(one.profile_id, one.words, one.ready_now) for one in others] == [
        ("h100", "ready now", True),
        ("t4", "about 1.5 min", False),
        ("l4", "about 2 min", False),
    ]
    assert [one.usd_per_hour for one in others] == [6.88, 0.526, pytest.approx(0.8048)]
    assert [one.title for one in others] == ["H100", "T4", "L4"]


def test_what_is_unavailable_is_no_alternative() -> None:
    states: dict[str, dict[str, Any]] = {
        "t4": {"no_capacity_since": NOW},
        "l4": {"unavailable": "the limit of NodePool gpu is reached"},
    }
    assert ids(found(states=states)) == ["a10g", "h100"]


def test_where_nothing_is_known_they_are_offered_and_say_so() -> None:
    others = found()
    assert len(others) == 3
    assert {(one.words, one.ready_now) for one in others} == {("wait unknown", False)}


def test_among_equals_the_admins_fallbacks_come_first_then_the_cheaper() -> None:
    states = {key: {"ready": READY} for key in ("t4", "a10g", "l4", "h100", "cpu")}
    assert ids(found(states=states)) == ["t4", "l4", "a10g"]
    named = tuple(
        replace(one, fallback=Fallback(profiles=("h100", "cpu"))) if one.id == "a100" else one for one in PROFILES
    )
    assert ids(found(choices(*named), states)) == ["cpu", "h100", "t4"]


def test_a_gpu_is_not_replaced_by_none_nor_none_by_a_gpu() -> None:
    assert "cpu" not in ids(found(states={"cpu": {"ready": READY}}))
    assert found(without="cpu") == ()


def test_the_same_machines_under_another_name_do_not_help() -> None:
    known = choices(gpu_profile("a100"), gpu_profile("same", "a100"), gpu_profile("t4"))
    assert ids(found(known, {})) == ["t4"]
    spot = gpu_profile("spot", "a100", capacity=Capacity.SPOT)
    assert ids(found(choices(gpu_profile("a100"), spot))) == ["spot"]


@pytest.mark.parametrize(
    "changes",
    [
        {"limits": Limits(gpus_per_user=0)},
        {"limits": Limits(gpus_per_user=1), "usage": Usage(own=(RunningServer("train", 1, "t4"),))},
        {"pools": {}},
        {"profiles": {key: replace(one, groups=("x",)) for key, one in ALL.profiles.items()}},
    ],
)
def test_only_what_the_person_may_start_now_is_offered(changes: dict[str, Any]) -> None:
    assert found(replace(ALL, **changes), {}) == ()


def test_what_this_start_has_already_tried_is_no_alternative() -> None:
    tried = ("t4-1", "l4-1/any-zone", "h100-1-spot")
    others = alternatives(ALL, None, "a100", NOW, eta=eta, prices=Prices(), tried=tried)
    assert ids(others) == ["a10g", "h100"]


def test_the_hubs_image_counts_where_a_profile_has_none() -> None:
    known = choices(gpu_profile("a100"), gpu_profile("t4"))
    pools = {"t4-1": PoolState("t4-1", ready={"": 1, "quay.io/hub/image:1": 1})}
    for image, ready in (("quay.io/hub/image:1", True), ("quay.io/hub/other:1", False)):
        (one,) = alternatives(
            known, PublishedState(NOW, "", pools), "a100", NOW, eta=eta, prices=Prices(), hub_image=image
        )
        assert one.ready_now is ready


def test_a_profile_that_is_gone_has_no_alternatives() -> None:
    assert found(without="gone") == ()


@given(
    st.dictionaries(
        st.sampled_from([one.id for one in PROFILES]),
        st.fixed_dictionaries(
            {}, optional={"ready": st.sampled_from([READY, {"": 1}]), "no_capacity_since": st.just(NOW)}
        ),
    ),
    st.sampled_from([one.id for one in PROFILES]),
)
def test_never_the_asked_one_never_too_many_and_ready_ones_first(states: dict[str, Any], without: str) -> None:
    others = found(states=states, without=without)
    assert len(others) <= 3
    assert without not in ids(others)
    assert len(set(ids(others))) == len(others)
    assert [one.ready_now for one in others] == sorted((one.ready_now for one in others), reverse=True)
    assert all(one.ready_now == (one.words == "ready now") for one in others)


OTHERS = {"t4": gpu_profile("t4"), "l4": gpu_profile("l4", capacity=Capacity.SPOT)}


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({}, ""),
        ({"fallback": Fallback(profiles=("closed",))}, ""),
        ({"capacity": Capacity.SPOT, "fallback": Fallback(Capacity.ON_DEMAND)}, ""),
        ({"fallback": Fallback(profiles=("closed", "t4"))}, "start T4 instead"),
        (
            {"fallback": Fallback(profiles=("t4", "l4"))},
            "start T4 or L4 (may end with 2 minutes' notice) instead",
        ),
        ({"fallback": Fallback(Capacity.SPOT)}, "use spot, which may end with 2 minutes' notice"),
        (
            {"fallback": Fallback(Capacity.SPOT_FIRST, ("t4",))},
            "use spot, which may end with 2 minutes' notice, or start T4 instead",
        ),
    ],
)
def test_consent_is_asked_in_words_that_name_the_profile_and_the_risk(profile: dict[str, Any], words: str) -> None:
    assert consent_words(gpu_profile("a100", **profile), OTHERS) == words
