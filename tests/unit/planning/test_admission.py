"""Admission: groups first, then GPU limits; others are a number and never a name (rows O7 and O12, pure half)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.domain.outcomes import RefusalReason
from gpu_launcher.domain.policy import Limits
from gpu_launcher.domain.profile import ProfileLimits
from gpu_launcher.domain.request import StartRequest
from gpu_launcher.domain.usage import Person, RunningServer, Usage
from gpu_launcher.planning.admission import admit
from machines import cpu_profile, gpu_profile

ADA = Person("ada", frozenset({"vision"}))
ONE = StartRequest("a10g", gpus=1)
NOBODY = Usage()


def _server(name: str = "train", gpus: int = 1, profile: str | None = "a10g", *groups: str) -> RunningServer:
    return RunningServer(name, gpus, profile, frozenset(groups))


def test_o7_a_profile_of_other_groups_is_refused() -> None:
    profile = gpu_profile(groups=("language",))
    refusal = admit(profile, ONE, ADA, NOBODY)
    assert refusal is not None
    assert (refusal.reason, refusal.status) == (RefusalReason.NOT_ENTITLED, 403)
    assert "language" not in refusal.message
    assert admit(profile, ONE, Person("bob", frozenset({"language", "x"})), NOBODY) is None
    assert admit(gpu_profile(), ONE, Person("eve"), NOBODY) is None


@pytest.mark.parametrize(
    ("own", "asked", "admitted"), [((), 2, True), ((), 3, False), ((1,), 1, True), ((1,), 2, False), ((1, 1), 1, False)]
)
def test_o12_a_limit_per_user(own: tuple[int, ...], asked: int, admitted: bool) -> None:
    usage = Usage(own=tuple(_server(str(n), gpus) for n, gpus in enumerate(own)))
    refusal = admit(gpu_profile(), StartRequest("a10g", gpus=asked), ADA, usage, Limits(gpus_per_user=2))
    assert (refusal is None) is admitted


def test_o12_the_message_names_the_limit_own_servers_and_how_to_free_them_and_nobody_else() -> None:
    usage = Usage(
        own=(_server("train", 1, "a10g", "vision"), _server("", 1, "t4", "vision"), _server("cpu", 0, "cpu", "vision")),
        others=(_server("bobs-secret", 2, "a10g", "vision"),),
    )
    refusal = admit(gpu_profile(), ONE, ADA, usage, Limits(gpus_per_group=4))
    assert refusal is not None
    assert (refusal.reason, refusal.status) == (RefusalReason.GPU_LIMIT, 403)
    assert refusal.message == (
        'The limit for the group "vision" is 4 GPUs; 4 in use and this start asks for 1. You hold 2 GPUs: '
        '"train" (1 GPU), your default server (1 GPU). '
        "Stop a server on the hub's home page to free its GPUs. 2 GPUs are held by others."
    )
    assert refusal.detail == {
        "limit": 4,
        "in_use": 4,
        "asked": 1,
        "own": [{"name": "train", "gpus": 1}, {"name": "", "gpus": 1}],
        "others": 2,
    }


def test_o12_limits_of_a_profile_count_its_own_sessions_only() -> None:
    profile = gpu_profile(limits=ProfileLimits(gpus_per_user=1))
    assert admit(profile, ONE, ADA, Usage(own=(_server(profile="t4"),))) is None
    assert admit(profile, ONE, ADA, Usage(own=(_server(),))) is not None
    assert admit(profile, ONE, ADA, Usage(others=(_server(),))) is None


def test_o12_a_profile_can_be_full_for_everybody() -> None:
    profile = gpu_profile(limits=ProfileLimits(gpus_total=2))
    others = (_server("x"), _server("y", 1, "t4"))
    assert admit(profile, ONE, ADA, Usage(others=others)) is None
    refusal = admit(profile, ONE, ADA, Usage(others=(*others, _server("z"))))
    assert refusal is not None
    assert 'all users of "A10G" together is 2 GPUs' in refusal.message


def test_o12_group_limits_have_their_own_numbers_and_hold_for_each_group() -> None:
    limits = Limits(gpus_per_group=1, groups={"vision": 3})
    both = Person("ada", frozenset({"vision", "course"}))
    usage = Usage(others=(_server("x", 2, "a10g", "vision"),))
    assert admit(gpu_profile(), ONE, ADA, usage, limits) is None
    assert admit(gpu_profile(), ONE, both, usage, limits) is None
    usage = Usage(others=(*usage.others, _server("y", 1, "a10g", "course")))
    refusal = admit(gpu_profile(), ONE, both, usage, limits)
    assert refusal is not None
    assert 'group "course"' in refusal.message


def test_o12_a_profile_given_to_groups_counts_only_these() -> None:
    profile = gpu_profile(groups=("vision",), limits=ProfileLimits(gpus_per_group=1))
    both = Person("ada", frozenset({"vision", "course"}))
    assert admit(profile, ONE, both, Usage(others=(_server("y", 1, "a10g", "course"),))) is None
    assert admit(profile, ONE, both, Usage(others=(_server("y", 1, "a10g", "vision"),))) is not None


def test_o12_sessions_without_a_gpu_meet_no_gpu_limit() -> None:
    usage = Usage(own=(_server("x", 9),))
    assert admit(cpu_profile(), StartRequest("cpu"), ADA, usage, Limits(gpus_per_user=1)) is None


def test_o12_a_start_larger_than_the_limit_is_told_so() -> None:
    refusal = admit(gpu_profile(), StartRequest("a10g", gpus=4), ADA, NOBODY, Limits(gpus_per_user=2))
    assert refusal is not None
    assert refusal.message.endswith("Ask for 2 GPUs or fewer.")


@given(
    st.lists(st.integers(1, 4), max_size=5),
    st.lists(st.integers(1, 4), max_size=5),
    st.integers(0, 12),
    st.integers(1, 4),
)
def test_o12_whoever_is_admitted_stays_within_every_limit(
    own: list[int], others: list[int], limit: int, asked: int
) -> None:
    usage = Usage(
        own=tuple(_server("x", n, "a10g", "vision") for n in own),
        others=tuple(_server("", n, "a10g", "vision") for n in others),
    )
    request = StartRequest("a10g", gpus=asked)
    in_group = admit(gpu_profile(), request, ADA, usage, Limits(gpus_per_group=limit))
    assert (in_group is None) == (sum(own) + sum(others) + asked <= limit)
    in_all = admit(gpu_profile(limits=ProfileLimits(gpus_total=limit)), request, ADA, usage)
    assert (in_all is None) == (usage.total + asked <= limit)
