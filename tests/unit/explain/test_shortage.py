"""What the cloud refused is remembered after its NodeClaim is gone, once, and told apart from everything else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facts import NOW, claim, conditions, launched
from gpu_launcher.domain.start import Shortage, ShortageKind
from gpu_launcher.domain.views import EventView
from gpu_launcher.explain.shortage import Shortages, kind_of

ICE = (
    "NodeClaim gpu-abcde event: insufficient capacity, with fleet error(s), InsufficientInstanceCapacity: We currently "
    "do not have sufficient g5.xlarge capacity in the Availability Zone you requested (us-east-1a). Our system will be "
    "working on provisioning additional capacity."
)
NO_SPOT = (
    "NodeClaim gpu-abcde event: insufficient capacity, with fleet error(s), InsufficientInstanceCapacity: There is no "
    "Spot capacity available that matches your request."
)
NO_QUOTA = (
    "NodeClaim gpu-abcde event: insufficient capacity, with fleet error(s), VcpuLimitExceeded: You have requested more "
    "vCPU capacity than your current vCPU limit of 0 allows"
)


def refused(message: str = ICE, ago: float = 1.0, uid: str = "claim-1") -> EventView:
    at = NOW - ago
    return EventView("NodeClaim", "gpu-abcde", uid, "InsufficientCapacityError", message, at, at)


def seen(*steps: tuple[str, object]) -> tuple[Shortage, ...]:
    found = Shortages()
    for kind, what in steps:
        found = found.seen_event(what) if kind == "event" else found.seen_claim(kind, what, NOW)  # type: ignore[arg-type]
    return found.all(NOW)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (ICE, ShortageKind.CAPACITY),
        (NO_SPOT, ShortageKind.CAPACITY),
        (NO_QUOTA, ShortageKind.QUOTA),
        ("MaxSpotInstanceCountExceeded: Max spot instance count exceeded", ShortageKind.QUOTA),
        ("InsufficientFreeAddressesInSubnet: subnet is full", ShortageKind.QUOTA),
        (f"{ICE}; {NO_QUOTA}", ShortageKind.CAPACITY),
        ("all requested instance types were unavailable during launch", ShortageKind.CAPACITY),
        ("something new", ShortageKind.CAPACITY),
        ("", ShortageKind.CAPACITY),
        ('insufficient capacity, resolving node class, kwoknodeclasses "x" not found', None),
    ],
)
def test_k19_quota_is_told_apart_from_capacity(message: str, kind: ShortageKind | None) -> None:
    assert kind_of(message) is kind


def test_k4_an_event_and_the_end_of_its_claim_are_one_shortage() -> None:
    going = claim(ways=("on-demand", "spot"))
    for steps in (
        (("ADDED", going), ("event", refused()), ("DELETED", going)),
        (("ADDED", going), ("DELETED", going), ("event", refused())),
        (("ADDED", going), ("MODIFIED", replace(going, deleting=True)), ("DELETED", going), ("event", refused())),
    ):
        (one,) = seen(*steps)
        assert (one.kind, one.node_pool, one.claim is not None) == (ShortageKind.CAPACITY, "gpu", True)
        assert (one.zones, one.capacity_types) == (("us-east-1a",), ("on-demand",))


def test_k4_each_alone_is_enough() -> None:
    (one,) = seen(("event", refused(NO_SPOT)))
    assert (one.node_pool, one.claim, one.capacity_types, one.at) == ("gpu", None, ("spot",), NOW - 1)
    (one,) = seen(("DELETED", claim(ways=("on-demand", "spot"))))
    assert one.capacity_types == ("spot",), "one request asks for spot as long as it may"


def test_what_is_no_shortage() -> None:
    assert seen(("ADDED", claim())) == ()
    assert seen(("ADDED", claim()), ("MODIFIED", launched()), ("DELETED", launched())) == ()
    failed = claim(conditions=conditions(300, Launched="LaunchFailed: access denied"))
    assert seen(("DELETED", failed)) == ()
    assert seen(("event", replace(refused(), kind="Pod"))) == ()
    assert seen(("event", replace(refused(), reason="Launched"))) == ()
    assert seen(("event", replace(refused(), reason="NodeClassNotReady")), ("DELETED", claim())) == ()


def test_an_old_one_is_forgotten() -> None:
    found = Shortages().seen_event(refused(ago=100))
    assert len(found.all(NOW)) == 1
    assert found.all(NOW, keep_s=60) == ()


def test_nothing_changes_for_what_is_known() -> None:
    found = Shortages().seen_event(refused())
    assert found.seen_event(refused()) is found
    gone = found.seen_claim("DELETED", claim(), NOW)
    assert gone.seen_claim("DELETED", claim(), NOW + 1) is gone


def test_k4_a_class_that_is_refused_at_once_is_one_shortage() -> None:
    found = Shortages()
    for number in range(50):
        found = found.seen_claim("DELETED", claim(name=f"gpu-{number}", uid=str(number)), NOW + number / 50)
    assert len(found.all(NOW)) == 1
    later = found.seen_claim("DELETED", claim(uid="later"), NOW + 11)
    assert [one.at for one in later.all(NOW + 11)] == [NOW, NOW + 11]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["event", "ADDED", "MODIFIED", "DELETED", "odd"]),
            st.integers(0, 4),
            st.sampled_from([ICE, NO_SPOT, NO_QUOTA, "", "x" * 400]),
        ),
        max_size=30,
    )
)
def test_any_order_of_news_gives_shortages_in_order(news: list[tuple[str, int, str]]) -> None:
    found = Shortages()
    for place, (kind, number, message) in enumerate(news):
        at = NOW + place
        if kind == "event":
            found = found.seen_event(refused(message, -place, str(number)))
        else:
            found = found.seen_claim(kind, claim(uid=str(number), name=f"gpu-{number}"), at)
    told = found.all(NOW + 40)
    assert [one.at for one in told] == sorted(one.at for one in told)
    assert len(told) <= len({number for _, number, _ in news})
