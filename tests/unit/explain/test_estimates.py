"""Prices and waits before anything was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.domain.policy import ClusterPolicy, Prices
from gpu_launcher.domain.pool import SlotPool
from gpu_launcher.domain.profile import Capacity
from gpu_launcher.domain.resources import Resources
from gpu_launcher.explain.prices import dollars, pool_price, priced, slot_price
from gpu_launcher.explain.wait import cold_start, in_words, shortening
from gpu_launcher.planning.pools import pool_for
from machines import CATALOGUE, TORCH, gpu_profile, machine

POLICY = ClusterPolicy()


def test_a_discount_holds_for_list_prices_and_not_for_overrides() -> None:
    kinds = priced(CATALOGUE, Prices(discount=0.1, overrides={"g5.xlarge": 0.8, "p5e.48xlarge": 40.0}))
    by_name = {kind.name: kind.usd_per_hour for kind in kinds}
    assert by_name["g5.xlarge"] == 0.8
    assert by_name["p5e.48xlarge"] == 40.0
    assert by_name["g5.2xlarge"] == pytest.approx(1.0908)


def test_an_override_decides_which_type_is_cheapest() -> None:
    pool = pool_for(gpu_profile(), priced(CATALOGUE, Prices(overrides={"g5.2xlarge": 0.1})), POLICY)
    assert isinstance(pool, SlotPool)
    assert pool.instance_types[0].name == "g5.2xlarge"
    price = pool_price(pool, Prices(spot_ratio=0.5))
    assert (price.on_demand, price.spot) == (0.1, 0.05)
    assert price.of(Capacity.SPOT_FIRST) == 0.05
    assert price.of(Capacity.RESERVED) == 0.1


@pytest.mark.parametrize("kind", [machine(usd=None)])
def test_an_unknown_price_stays_unknown(kind: object) -> None:
    assert slot_price(machine(usd=None), 1, Prices()).spot is None
    assert slot_price(machine(), 0, Prices()).on_demand is None
    assert priced([machine(usd=None)], Prices(discount=0.5))[0].usd_per_hour is None
    empty = SlotPool("p", Capacity.SPOT, (), (1,), Resources(1, 1, 1, 1))
    assert pool_price(empty, Prices()).spot is None


def test_dollars_in_words() -> None:
    assert dollars(1.006) == "$1.01"
    assert dollars(None) == "price unknown"


def test_a_cold_start_has_its_parts() -> None:
    wait = cold_start(1, TORCH, POLICY)
    assert [(stage.name, stage.seconds) for stage in wait.stages] == [
        ("boot", 45),
        ("GPU driver", 15),
        ("image", 150),
        ("server", 5),
    ]
    assert (wait.seconds, wait.complete) == (215, True)


def test_an_unknown_image_makes_the_estimate_a_lower_bound() -> None:
    wait = cold_start(0, None, POLICY)
    assert (wait.seconds, wait.complete) == (50, False)
    assert shortening(None, POLICY) == ()


def test_what_shortens_a_start() -> None:
    snapshot, parallel, smaller = shortening(TORCH, POLICY)
    assert "snapshot" in snapshot
    assert "saves about 2.5 min" in snapshot
    assert "parallel pull (cluster.parallel_pull) saves about 50 s" in parallel
    assert "every GB less of 9.0 GB in the image saves about 20 s" in smaller
    assert cold_start(1, TORCH, replace(POLICY, parallel_pull=True)).seconds == 170
    assert len(shortening(TORCH, replace(POLICY, parallel_pull=True))) == 2
    assert cold_start(1, TORCH, replace(POLICY, disk_snapshot=True)).seconds == 65
    assert shortening(TORCH, replace(POLICY, disk_snapshot=True)) == ()


@given(st.floats(0, 100_000))
def test_waits_in_words_are_near_the_truth(seconds: float) -> None:
    number, unit = in_words(seconds).split()
    said = float(number) * {"s": 1, "min": 60}[unit]
    assert abs(said - seconds) <= (1 if seconds < 10 else 5 if seconds < 90 else 15)
