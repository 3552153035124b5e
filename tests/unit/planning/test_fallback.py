"""The ladder: what a start becomes when there is no machine for it, and what only the user can agree to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.domain.outcomes import RefusalReason
from gpu_launcher.domain.policy import ClusterPolicy, Limits
from gpu_launcher.domain.pool import SlotPool
from gpu_launcher.domain.profile import Capacity, Fallback, GpuRequest, Profile, ProfileLimits
from gpu_launcher.domain.request import StartRequest
from gpu_launcher.domain.usage import Person, RunningServer, Usage
from gpu_launcher.domain.views import VolumeView
from gpu_launcher.planning.fallback import Choices, Rung, RungKind, attempt_key, instead_of, next_rung
from gpu_launcher.planning.placement import CAPACITY_LABEL, POOL_LABEL, place
from gpu_launcher.planning.pools import pools_for
from machines import CATALOGUE, IDENTITY, JAX, TORCH, cpu_profile, gpu_profile

POLICY = ClusterPolicy()
ZONE = "topology.kubernetes.io/zone"
HELPED = ["capacity", "cloud_quota", "pool_limit", "no_node_pool", "node_class"]
ADA = Person("ada", frozenset({"vision"}))


def choices(*profiles: Profile, **changes: Any) -> Choices:
    pools = pools_for(profiles, CATALOGUE, POLICY)
    had = {key: pool for key, pool in pools.items() if isinstance(pool, SlotPool)}
    return replace(Choices({profile.id: profile for profile in profiles}, had, ADA), **changes)


def volume(*zones: str, phase: str = "Bound") -> VolumeView:
    return VolumeView("claim-ada", phase, "pv-1", zones, ("ReadWriteOnce",))


def climb(request: StartRequest, known: Choices, **how: Any) -> list[Rung]:
    """Every rung that follows, one after another, as after refusals for want of capacity."""
    profile, taken = known.profiles[request.profile_id], list[Rung]()
    while rung := next_rung(profile, request, [one.key for one in taken], RefusalReason.CAPACITY, known, **how):
        taken.append(rung)
        assert len(taken) < 40
    return taken


def told(rungs: list[Rung]) -> list[str]:
    return [rung.words for rung in rungs]


A100 = gpu_profile("a100", fallback=Fallback(profiles=("h100", "a10g")))
OTHERS = (gpu_profile("h100"), gpu_profile("a10g"), cpu_profile())


def test_without_a_fallback_there_is_no_next_attempt() -> None:
    assert climb(StartRequest("a10g", gpus=1, fallback=True), choices(*OTHERS)) == []


def test_k4_spot_becomes_on_demand_without_asking_anybody() -> None:
    spot = gpu_profile("t4", capacity=Capacity.SPOT, fallback=Fallback(Capacity.ON_DEMAND))
    (rung,) = climb(StartRequest("t4", gpus=1), choices(spot))
    assert (rung.kind, rung.words, rung.key) == (RungKind.CAPACITY, "Trying on-demand", "t4-1")
    plan = place(rung.profile, rung.request, rung.pool, POLICY, IDENTITY)
    assert (plan.labels[CAPACITY_LABEL], plan.labels[POOL_LABEL]) == ("on-demand", rung.pool.id)
    assert plan.resources == place(spot, StartRequest("t4", gpus=1), rung.pool, POLICY, IDENTITY).resources


@pytest.mark.parametrize("consent", [False, True])
def test_the_risk_of_spot_is_taken_only_with_consent(consent: bool) -> None:
    profile = gpu_profile("t4", fallback=Fallback(Capacity.SPOT))
    rungs = climb(StartRequest("t4", gpus=1, fallback=consent), choices(profile))
    assert told(rungs) == (["Trying spot"] if consent else [])


def test_a_ticked_spot_already_takes_on_demand() -> None:
    profile = gpu_profile("t4", spot_choice=True, fallback=Fallback(Capacity.SPOT_FIRST))
    assert climb(StartRequest("t4", gpus=1, spot=True, fallback=True), choices(profile)) == []
    assert told(climb(StartRequest("t4", gpus=1, fallback=True), choices(profile))) == ["Trying spot and on-demand"]


def test_k4_another_profile_needs_the_users_consent() -> None:
    known = choices(A100, *OTHERS)
    assert climb(StartRequest("a100", gpus=1), known) == []
    rungs = climb(StartRequest("a100", gpus=1, fallback=True), known)
    assert told(rungs) == ['Trying "H100" instead', 'Trying "A10G" instead']
    assert [rung.request for rung in rungs] == [StartRequest("h100", gpus=1), StartRequest("a10g", gpus=1)]
    for rung in rungs:
        assert place(rung.profile, rung.request, rung.pool, POLICY, IDENTITY).profile_id == rung.profile.id


@pytest.mark.parametrize(
    ("h100", "changes"),
    [
        ({"groups": ("language",)}, {}),
        ({"limits": ProfileLimits(gpus_total=0)}, {}),
        ({"gpu": GpuRequest("h100", memory_mib_at_least=10**6)}, {}),
        ({"gpu": GpuRequest("h100", count=2, max_count=2)}, {"limits": Limits(gpus_per_user=1)}),
    ],
    ids=["entitlement", "its limit", "no machine", "the person's limit"],
)
def test_what_the_user_may_not_start_is_passed_over(h100: dict[str, Any], changes: dict[str, Any]) -> None:
    known = choices(A100, gpu_profile("h100", **h100), *OTHERS[1:], **changes)
    assert told(climb(StartRequest("a100", gpus=1, fallback=True), known)) == ['Trying "A10G" instead']


def test_limits_count_what_runs_now() -> None:
    usage = Usage(own=(RunningServer("train", 1, "a10g"),))
    known = choices(A100, *OTHERS, usage=usage, limits=Limits(gpus_per_user=1))
    assert climb(StartRequest("a100", gpus=1, fallback=True), known) == []


def test_a_profile_that_is_gone_or_needs_the_same_machines_is_passed_over() -> None:
    first = gpu_profile("a100", fallback=Fallback(profiles=("gone", "same", "a10g")))
    known = choices(first, gpu_profile("same", "a100"), *OTHERS)
    assert told(climb(StartRequest("a100", gpus=1, fallback=True), known)) == ['Trying "A10G" instead']


def test_a_fallback_has_its_own_concessions_but_not_its_own_fallbacks() -> None:
    a100 = gpu_profile("a100", capacity=Capacity.SPOT, fallback=Fallback(Capacity.ON_DEMAND, ("h100",)))
    h100 = gpu_profile("h100", capacity=Capacity.SPOT, fallback=Fallback(Capacity.ON_DEMAND, ("a100", "a10g")))
    rungs = climb(StartRequest("a100", gpus=1, fallback=True), choices(a100, h100, *OTHERS[1:]))
    assert told(rungs) == ["Trying on-demand", 'Trying "H100" instead', "Trying on-demand"]


def test_consent_to_a_profile_is_not_consent_to_its_risks() -> None:
    h100 = gpu_profile("h100", fallback=Fallback(Capacity.SPOT))
    rungs = climb(StartRequest("a100", gpus=1, fallback=True), choices(A100, h100, *OTHERS[1:]))
    assert "Trying spot" not in told(rungs)


@pytest.mark.parametrize("reason", list(RefusalReason))
def test_only_a_want_of_machines_is_answered_with_other_machines(reason: RefusalReason) -> None:
    rung = next_rung(A100, StartRequest("a100", gpus=1, fallback=True), (), reason, choices(A100, *OTHERS))
    assert (rung is not None) == (reason in HELPED)


@pytest.mark.parametrize(
    ("volumes", "zone", "leaves"),
    [
        ((), "us-west-2a", True),
        ((volume(),), "us-west-2a", True),
        ((volume("us-west-2a"),), "us-west-2a", False),
        ((volume("us-west-2b"),), "us-west-2a", True),
        ((volume("us-west-2a", "us-west-2b"),), "us-west-2a", True),
        ((volume("us-west-2a", "us-west-2b"), volume("us-west-2a")), "us-west-2a", False),
        ((volume(phase="Pending"),), "us-west-2a", False),
        ((volume(phase=""),), "us-west-2a", False),
        ((volume(phase="Lost"), volume()), "us-west-2a", False),
        (None, "us-west-2a", False),
        ((), None, False),
    ],
)
@pytest.mark.parametrize("pinned_by", ["profile", "site"])
def test_a_pinned_zone_is_left_where_no_volume_needs_it(
    volumes: tuple[VolumeView, ...] | None, zone: str | None, leaves: bool, pinned_by: str
) -> None:
    selector = {ZONE: zone} if zone else {}
    own = {"team": "vision"} | (selector if pinned_by == "profile" else {})
    profile = gpu_profile("t4", node_selector=own, fallback=Fallback(any_zone=True))
    # A label of the site's own leaves the profile without a known machine, so the pool is that of the plain profile.
    known = replace(choices(gpu_profile("t4")), profiles={"t4": profile})
    site = selector if pinned_by == "site" else None
    rungs = climb(StartRequest("t4", gpus=1), known, site_selector=site, volumes=volumes)
    assert told(rungs) == (["Trying other zones"] if leaves else [])
    for rung in rungs:
        assert rung.any_zone
        assert rung.key == "t4-1/any-zone"
        selector = dict(place(rung.profile, rung.request, rung.pool, POLICY, IDENTITY).node_selector)
        assert ZONE not in selector
        assert selector["team"] == "vision"


def test_a_zone_is_left_only_where_the_admin_says_so() -> None:
    known = choices(gpu_profile("t4", fallback=Fallback()))
    assert climb(StartRequest("t4", gpus=1), known, site_selector={ZONE: "us-west-2a"}, volumes=()) == []


def test_the_id_of_a_zone_cannot_be_compared_with_a_volumes_zone() -> None:
    known = choices(gpu_profile("t4", fallback=Fallback(any_zone=True)))
    site = {"topology.k8s.aws/zone-id": "usw2-az1"}
    assert climb(StartRequest("t4", gpus=1), known, site_selector=site, volumes=(volume("us-west-2b"),)) == []
    assert len(climb(StartRequest("t4", gpus=1), known, site_selector=site, volumes=(volume(),))) == 1


def test_what_was_given_up_stays_given_up() -> None:
    profile = gpu_profile("t4", capacity=Capacity.SPOT, fallback=Fallback(Capacity.ON_DEMAND, any_zone=True))
    rungs = climb(StartRequest("t4", gpus=1), choices(profile), site_selector={ZONE: "us-west-2a"}, volumes=())
    assert [rung.key for rung in rungs] == ["t4-1-spot/any-zone", "t4-1/any-zone"]
    assert told(rungs) == ["Trying other zones", "Trying on-demand"]


@pytest.mark.parametrize(
    ("asked", "other", "gpus"),
    [
        (4, GpuRequest("a10g", max_count=4), 4),
        (4, GpuRequest("a10g", max_count=2), 2),
        (3, GpuRequest("a10g", count=2, max_count=8), 2),
        (1, GpuRequest("a10g", count=2, max_count=8), 2),
        (1, GpuRequest("a10g"), 1),
        (0, GpuRequest("a10g"), 1),
        (4, None, 0),
    ],
)
def test_gpus_come_nearest_to_what_was_asked(asked: int, other: GpuRequest | None, gpus: int) -> None:
    found = instead_of(gpu_profile("a100"), StartRequest("a100", gpus=asked), gpu_profile("b", gpu=other))
    assert found == StartRequest("b", gpus=gpus)


COPY = replace(JAX, id="jax-copy")


@pytest.mark.parametrize(
    ("picked", "other", "found"),
    [
        ("jax", (TORCH, JAX), "jax"),
        ("jax", (TORCH, COPY), "jax-copy"),
        ("jax", (TORCH, replace(JAX, reference="quay.io/team/jax:2")), "jax"),
        ("torch", (JAX, TORCH), "torch"),
        (None, (JAX, TORCH), "torch"),
        (None, (JAX,), None),
        ("torch", (), None),
    ],
)
def test_the_image_that_was_picked_is_kept(picked: str | None, other: tuple[Any, ...], found: str | None) -> None:
    request = instead_of(
        gpu_profile("a100", images=(TORCH, JAX)), StartRequest("a100", picked, gpus=1), gpu_profile("b", images=other)
    )
    assert request == StartRequest("b", found, gpus=1)


def test_a_profile_without_the_picked_image_is_no_fallback() -> None:
    a100 = replace(A100, images=(TORCH, JAX))
    known = choices(a100, gpu_profile("h100", images=(TORCH,)), gpu_profile("a10g", images=(TORCH, JAX)))
    rungs = climb(StartRequest("a100", "jax", gpus=1, fallback=True), known)
    assert [(rung.profile.id, rung.request.image_id) for rung in rungs] == [("a10g", "jax")]


@pytest.mark.parametrize(
    ("other", "found"),
    [
        ({"unlisted_image_pattern": r"quay\.io/.+"}, StartRequest("b", image_reference=TORCH.reference, gpus=1)),
        ({"unlisted_image_pattern": r"ghcr\.io/.+"}, None),
        ({"images": (TORCH,)}, StartRequest("b", "torch", gpus=1)),
        ({}, None),
    ],
)
def test_an_image_of_the_users_own_is_kept_where_it_is_allowed(
    other: dict[str, Any], found: StartRequest | None
) -> None:
    request = StartRequest("a100", image_reference=TORCH.reference, gpus=1)
    assert instead_of(gpu_profile("a100"), request, gpu_profile("b", **other)) == found


def test_a_ticked_spot_is_kept_where_it_is_offered() -> None:
    request = StartRequest("a100", gpus=1, spot=True)
    a100 = gpu_profile("a100", spot_choice=True)
    assert instead_of(a100, request, gpu_profile("b", spot_choice=True)) == StartRequest("b", gpus=1, spot=True)
    assert instead_of(a100, request, gpu_profile("b")) == StartRequest("b", gpus=1)


def test_a_profile_that_no_machine_serves_any_more_has_no_ladder() -> None:
    known = choices(gpu_profile("t4"))
    assert next_rung(A100, StartRequest("a100", gpus=1), (), RefusalReason.CAPACITY, known) is None


IDS = ("a100", "h100", "a10g", "t4", "cpu")
POOLS = choices(cpu_profile(), *(gpu_profile(key) for key in IDS[:-1])).pools


@st.composite
def sites(draw: st.DrawFn) -> tuple[Choices, StartRequest]:
    profiles = []
    for key in IDS:
        names = draw(st.lists(st.sampled_from([one for one in IDS if one != key]), max_size=4, unique=True))
        capacity = draw(st.none() | st.sampled_from(Capacity))
        made = cpu_profile() if key == "cpu" else gpu_profile(key)
        profiles.append(
            replace(
                made,
                capacity=draw(st.sampled_from(Capacity)),
                groups=draw(st.sampled_from([(), ("vision",), ("language",)])),
                fallback=Fallback(capacity, tuple(names), draw(st.booleans())),
            )
        )
    pools = {profile.id: POOLS[profile.id].with_capacity(profile.capacity) for profile in profiles}
    by_id = {profile.id: profile for profile in profiles}
    known = Choices(by_id, pools, ADA, limits=draw(st.sampled_from([Limits(), Limits(gpus_per_user=1)])))
    asked = draw(st.sampled_from(profiles))
    request = StartRequest(asked.id, gpus=1 if asked.gpu else 0, fallback=draw(st.booleans()))
    return known, request


@given(sites(), st.booleans())
def test_every_ladder_ends_and_stays_within_what_is_allowed(site: tuple[Choices, StartRequest], pinned: bool) -> None:
    known, request = site
    asked = known.profiles[request.profile_id]
    rungs = climb(request, known, site_selector={ZONE: "z"} if pinned else {}, volumes=())
    first = attempt_key(asked, request, known.pools[asked.id])
    assert len({first, *(rung.key for rung in rungs)}) == len(rungs) + 1
    for rung in rungs:
        plan = place(rung.profile, rung.request, rung.pool, POLICY, IDENTITY)
        assert plan.pool_id == rung.pool.id
        if rung.any_zone:
            assert known.profiles[rung.profile.id].fallback.any_zone
        if rung.profile.id != asked.id:
            assert request.fallback
            assert rung.profile.id in asked.fallback.profiles
            assert known.admit(known.profiles[rung.profile.id], rung.request)
        if not request.fallback and not asked.capacity.interruptible:
            assert not rung.profile.capacity.interruptible
