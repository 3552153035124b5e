"""Whether a profile can be had now, in the words of its card."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.domain.pool import SlotPool
from gpu_launcher.domain.pool_state import PoolState, PublishedState
from gpu_launcher.domain.profile import Capacity
from gpu_launcher.domain.resources import Resources
from gpu_launcher.domain.stage import StartKind
from gpu_launcher.explain.availability import Availability, AvailabilityState, availability
from gpu_launcher.explain.eta import Eta, wait_words

POOL = SlotPool("a10g-1", Capacity.ON_DEMAND, (), (1,), Resources(1, 1, 1, 1))
TORCH = "quay.io/team/torch:1"
NOON = 1_795_435_200.0  # 2026-11-23 12:00 UTC
ETAS = {
    StartKind.WARM: Eta(6.2, 9.0, measured=True),
    StartKind.LUKEWARM: Eta(52, 80, measured=True),
    StartKind.COLD: Eta(118, 170, measured=True),
}


def said(eta: Any = ETAS.get, image: str = TORCH, **state: Any) -> Availability:
    """What is said of a pool in that state."""
    published = PublishedState(NOON, "0123456789ab", {POOL.id: PoolState(POOL.id, **state)})
    return availability(POOL, published, NOON, eta, image=image)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"ready": {"": 2, TORCH: 1}}, "ready now, about 6 s"),
        ({"ready": {"": 2, TORCH: 1}, "no_capacity_since": NOON - 60}, "ready now, about 6 s"),
        ({"ready": {"": 2, TORCH: 1}, "unavailable": "the limit of NodePool gpu is reached"}, "ready now, about 6 s"),
        ({"no_capacity_since": NOON - 6360}, "no capacity since 10:14 UTC"),
        ({"no_capacity_since": NOON - 2 * 86400}, "no capacity since 2026-11-21 12:00 UTC"),
        ({"no_capacity_since": NOON + 60}, "no capacity since 12:00 UTC"),
        (
            {"unavailable": "the limit of NodePool gpu is reached", "no_capacity_since": NOON},
            "unavailable: the limit of NodePool gpu is reached",
        ),
    ],
)
def test_a_card_says_what_is_so(state: dict[str, Any], words: str) -> None:
    assert said(**state).words == words


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ({}, StartKind.COLD),
        ({"ready": {"": 0, TORCH: 0}}, StartKind.COLD),
        ({"in_use": 3}, StartKind.COLD),
        ({"ready": {"": 1, TORCH: 0}}, StartKind.LUKEWARM),
        ({"ready": {"": 1}}, StartKind.LUKEWARM),
        ({"ready": {"": 1, TORCH: 0}, "no_capacity_since": NOON}, StartKind.LUKEWARM),
        ({"starting": 1, "no_capacity_since": NOON}, StartKind.COLD),
        ({"starting": 1, "unavailable": "the limit of NodePool gpu is reached"}, StartKind.COLD),
    ],
)
def test_a_wait_is_that_of_what_has_to_come(state: dict[str, Any], kind: StartKind) -> None:
    found = said(**state)
    assert (found.state, found.eta, found.words) == (AvailabilityState.WAIT, ETAS[kind], wait_words(ETAS[kind]))
    assert found.words.startswith("about 50 s (" if kind is StartKind.LUKEWARM else "about 2 min (")


def test_an_image_is_found_under_its_normalised_name() -> None:
    ready = {"": 1, "docker.io/library/python:latest": 1}
    assert said(ready=ready, image="python").state is AvailabilityState.READY
    assert said(ready=ready, image="python:3").state is AvailabilityState.WAIT
    assert said(ready={"": 3}, image="").slots == 3


@pytest.mark.parametrize("published", [None, PublishedState(NOON, ""), PublishedState(NOON, "", {"b": PoolState("b")})])
def test_what_is_not_known_is_said_and_not_made_up(published: PublishedState | None) -> None:
    found = availability(POOL, published, NOON, ETAS.get)
    assert found.state is AvailabilityState.UNKNOWN
    assert found.words == f"wait unknown, {wait_words(ETAS[StartKind.COLD])} if a machine has to come"
    assert availability(POOL, published, NOON, lambda _: None).words == "wait unknown"


def test_without_an_estimate_no_figure_is_shown() -> None:
    assert said(lambda _: None, ready={"": 1, TORCH: 1}).words == "ready now"
    found = said(lambda _: None)
    assert (found.state, found.words) == (AvailabilityState.UNKNOWN, "wait unknown")


def test_each_way_of_buying_is_a_pool_of_its_own() -> None:
    published = PublishedState(NOON, "", {POOL.id: PoolState(POOL.id, ready={"": 1})})
    assert availability(POOL, published, NOON, ETAS.get).state is AvailabilityState.READY
    spot = POOL.with_capacity(Capacity.SPOT)
    assert availability(spot, published, NOON, ETAS.get).state is AvailabilityState.UNKNOWN


TIMES = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.dictionaries(st.sampled_from(["", TORCH, "x"]), st.integers(-2, 3)),
    st.integers(-1, 2),
    st.none() | TIMES,
    st.sampled_from(["", "the limit of NodePool gpu is reached"]),
)
def test_any_state_has_words_and_a_ready_slot_is_never_called_unavailable(
    ready: dict[str, int], starting: int, since: float | None, unavailable: str
) -> None:
    found = said(ready=ready, starting=starting, no_capacity_since=since, unavailable=unavailable)
    assert found.words
    assert (found.state is AvailabilityState.READY) == (ready.get(TORCH, 0) > 0)
    if found.state is AvailabilityState.UNAVAILABLE:
        assert ready.get("", 0) <= 0
