"""Options: untrusted JSON of any shape becomes ids and bounded numbers, or a refusal (rows O1 to O6, O8)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_launcher.domain.outcomes import Refusal, RefusalReason
from gpu_launcher.domain.policy import ClusterPolicy
from gpu_launcher.domain.pool import SlotPool
from gpu_launcher.domain.profile import Capacity, Fallback, GpuRequest
from gpu_launcher.domain.request import StartRequest
from gpu_launcher.planning.options import parse_options
from gpu_launcher.planning.placement import place
from gpu_launcher.planning.pools import pool_for
from machines import CATALOGUE, IDENTITY, JAX, TORCH, cpu_profile, gpu_profile

PROFILES = (
    cpu_profile(),
    gpu_profile(
        "a10g",
        gpu=GpuRequest("a10g", max_count=4),
        images=(TORCH, JAX),
        spot_choice=True,
        unlisted_image_pattern=r"quay\.io/team/.+",
    ),
    gpu_profile("t4", images=(TORCH,)),
    gpu_profile("pairs", gpu=GpuRequest("a10g", count=2, max_count=8)),
    gpu_profile("spot", "t4", capacity=Capacity.SPOT),
)

WITH_FALLBACK = (cpu_profile(), gpu_profile("a100", fallback=Fallback(profiles=("t4",))), gpu_profile("t4"))

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=20,
)
KEYS = st.sampled_from(
    [
        "profile",
        "image",
        "image_unlisted",
        "image--unlisted-choice",
        "gpus",
        "spot",
        "fallback",
        "profile-option-a10g--image",
    ]
)
VALUES = JSON | st.sampled_from(["a10g", "t4", "jax", "2", ["a10g"], "on", 1, True, "quay.io/team/x:1"])


def _parsed(raw: Any, **how: Any) -> StartRequest:
    request = parse_options(raw, PROFILES, **how)
    assert isinstance(request, StartRequest), request
    return request


def _refused(raw: Any, **how: Any) -> Refusal:
    refusal = parse_options(raw, PROFILES, **how)
    assert isinstance(refusal, Refusal), refusal
    return refusal


def _deep(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"profile": [value]}
    return value


@given(JSON | st.dictionaries(KEYS, VALUES), st.booleans())
def test_o1_any_json_gives_a_request_or_a_refusal(raw: Any, saved: bool) -> None:
    outcome = parse_options(raw, PROFILES, from_saved=saved)
    if isinstance(outcome, Refusal):
        assert outcome.status in (400, 403)
        assert len(outcome.message) < 500
        return
    profile = next(one for one in PROFILES if one.id == outcome.profile_id)
    most = profile.gpu.max_count if profile.gpu else 0
    assert 0 <= outcome.gpus <= most
    assert outcome.image_id is None or profile.image(outcome.image_id)


@pytest.mark.parametrize(
    "raw",
    [
        [],
        "a10g",
        7,
        1.5,
        True,
        float("nan"),
        {"profile": "x" * 5000},
        {"extra": "x" * 5_000_000},
        {str(n): n for n in range(5000)},
        {"extra": list(range(5000))},
        _deep(100),
        _deep(50_000),
        {"profile": ["a10g", "t4"]},
        {"profile": {"id": "a10g"}},
        {"profile": [["a10g"]]},
        {"profile": 5},
        {"profile": "a10g", "image": 5},
        {"profile": "a10g", "spot": "maybe"},
        {"profile": "a10g", "spot": 1.0},
        {"profile": "t4", "spot": True},
    ],
    ids=lambda raw: str(raw)[:30] if isinstance(raw, (str, int, float)) else type(raw).__name__,
)
def test_o1_what_is_no_form_is_refused_as_invalid(raw: Any) -> None:
    refusal = _refused(raw)
    assert (refusal.reason, refusal.status) == (RefusalReason.INVALID_OPTIONS, 400)
    assert len(refusal.message) < 200


def test_o1_nothing_chosen_is_the_default_profile() -> None:
    assert _parsed(None) == _parsed({}) == _parsed({"profile": ""}) == StartRequest("cpu")


@pytest.mark.parametrize("profile", ["nope", "A10G", "a10g ", "a10g\n", "__proto__", "{0.__class__}"])
def test_o2_an_unknown_profile_is_refused_with_what_is_allowed(profile: str) -> None:
    refusal = _refused({"profile": profile})
    assert (refusal.reason, refusal.status) == (RefusalReason.UNKNOWN_PROFILE, 400)
    assert "Choose one of: cpu, a10g, t4, pairs, spot." in refusal.message
    assert refusal.detail["allowed"] == ["cpu", "a10g", "t4", "pairs", "spot"]


def test_o2_an_unknown_image_is_refused_with_what_is_allowed() -> None:
    refusal = _refused({"profile": "a10g", "image": "nope"})
    assert refusal.reason is RefusalReason.UNKNOWN_IMAGE
    assert "Choose one of: torch, jax." in refusal.message
    assert "Choose one of: none." in _refused({"image": "torch"}).message


@settings(max_examples=20)
@given(st.dictionaries(st.text(max_size=10).map(lambda key: f"x-{key}"), JSON, max_size=3))
def test_o3_extra_keys_are_counted_and_change_nothing(extra: dict[str, Any]) -> None:
    outcome = parse_options({"profile": "a10g", "image": "jax"} | extra, PROFILES)
    if isinstance(outcome, StartRequest):
        assert outcome == StartRequest("a10g", "jax", gpus=1, ignored_keys=len(extra))


@pytest.mark.parametrize(
    "key",
    ["node_selector", "image_spec", "environment", "kubespawner_override", "profile-option-t4--image", "tolerations"],
)
def test_o3_names_of_pod_fields_never_reach_the_pod(key: str) -> None:
    request = _parsed({"profile": "a10g", key: "canary"})
    assert request == StartRequest("a10g", gpus=1, ignored_keys=1)
    policy = ClusterPolicy()
    pool = pool_for(PROFILES[1], CATALOGUE, policy)
    assert isinstance(pool, SlotPool)
    assert "canary" not in str(place(PROFILES[1], request, pool, policy, IDENTITY))


@pytest.mark.parametrize(
    "reference",
    [
        "quay.io/team/image:tag",
        "quay.io/team/deep/er@sha256:" + "0" * 64,
        "quay.io/team/" + "x" * 242,
    ],
)
def test_o4_an_unlisted_image_that_the_pattern_allows(reference: str) -> None:
    for raw in (
        {"profile": "a10g", "image_unlisted": reference},
        {"profile": "a10g", "image": "unlisted-choice", "image--unlisted-choice": [reference]},
        {"profile": ["a10g"], "profile-option-a10g--image--unlisted-choice": [reference]},
    ):
        assert _parsed(raw) == StartRequest("a10g", image_reference=reference, gpus=1)


@pytest.mark.parametrize(
    "reference",
    [
        "quay.io/team.evil.org/x",
        "quay.io/teamx/image",
        "evil.org/quay.io/team/x",
        "quay.io/team/../other/x",
        "quay.io/team/x\nevil.org/y",
        "quay.io/team/x\n",
        "quay.io/t\u0435am/x",  # a Cyrillic letter
        "quay.io/team/{0.__class__}",
        "quay.io/team/" + "x" * 243,
        "quay.io/team/x:latest;rm",
        "QUAY.io/team/x",
    ],
)
def test_o4_tricks_around_the_pattern_are_refused(reference: str) -> None:
    refusal = _refused({"profile": "a10g", "image_unlisted": reference})
    assert refusal.reason is RefusalReason.UNKNOWN_IMAGE
    assert reference not in refusal.message


def test_o4_a_refused_image_is_answered_with_the_admins_hint() -> None:
    profile = gpu_profile("t4", unlisted_image_pattern="quay.+", unlisted_image_hint="images of quay.io")
    refusal = parse_options({"image_unlisted": "evil.org/x"}, (profile,))
    assert isinstance(refusal, Refusal)
    assert refusal.message == "This image is not allowed here. Allowed: images of quay.io"


def test_o4_without_a_pattern_there_are_no_unlisted_images() -> None:
    assert "listed images only" in _refused({"profile": "t4", "image_unlisted": "quay.io/team/x"}).message


def test_o5_every_spelling_makes_the_same_request() -> None:
    wanted = StartRequest("a10g", "jax", gpus=2, spot=True)
    for raw in (
        {"profile": "a10g", "image": "jax", "gpus": 2, "spot": True},
        {"profile": ["a10g"], "image": ["jax"], "gpus": ["2"], "spot": ["on"]},
        {
            "profile": "a10g",
            "profile-option-a10g--image": ["jax"],
            "profile-option-a10g--gpus": ["2"],
            "profile-option-a10g--spot": ["true"],
        },
        {"profile": "a10g", "image": "", "profile-option-a10g--image": "jax", "gpus": "2", "spot": "1"},
    ):
        assert _parsed(raw) == _parsed(raw, from_saved=True) == wanted


@pytest.mark.parametrize("yes", [True, "true", "on", ["1"], "yes", "YES"])
@pytest.mark.parametrize("key", ["fallback", "profile-option-a100--fallback"])
def test_consent_is_read_in_every_spelling_and_kept_in_saved_options(yes: Any, key: str) -> None:
    raw = {"profile": "a100", key: yes}
    for saved in (False, True):
        assert parse_options(raw, WITH_FALLBACK, from_saved=saved) == StartRequest("a100", gpus=1, fallback=True)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"fallback": False},
        {"fallback": None},
        {"fallback": ""},
        {"fallback": []},
        {"fallback": "off"},
        {"profile-option-t4--fallback": True},
    ],
)
def test_without_a_tick_there_is_no_consent(raw: dict[str, Any]) -> None:
    request = parse_options({"profile": "a100"} | raw, WITH_FALLBACK)
    assert isinstance(request, StartRequest)
    assert not request.fallback


def test_consent_to_what_a_profile_does_not_have_is_none_and_no_error() -> None:
    assert _parsed({"profile": "a10g", "fallback": True}) == StartRequest("a10g", gpus=1)


@pytest.mark.parametrize("value", ["maybe", 1, 1.0, {}, [["true"]], ["true", "true"], float("nan")])
def test_o1_consent_is_true_or_false(value: Any) -> None:
    refusal = parse_options({"profile": "a100", "fallback": value}, WITH_FALLBACK)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is RefusalReason.INVALID_OPTIONS


def test_o6_consent_does_not_move_to_another_profile() -> None:
    saved = {"profile": "gone", "fallback": True, "profile-option-a100--fallback": True}
    request = parse_options(saved, WITH_FALLBACK, from_saved=True, listed=["a100"])
    assert isinstance(request, StartRequest)
    assert (request.profile_id, request.fallback) == ("a100", False)


def test_o5_empty_fields_of_a_form_are_the_defaults() -> None:
    raw = {"profile": "a10g", "image": "", "image--unlisted-choice": "", "gpus": "", "spot": ""}
    assert _parsed(raw) == StartRequest("a10g", gpus=1)
    assert _parsed({"profile": "a10g", "image": [], "gpus": []}) == StartRequest("a10g", gpus=1)


def test_o6_saved_options_of_a_removed_profile_start_the_default_and_say_so() -> None:
    request = _parsed({"profile": "gone", "image": "jax"}, from_saved=True)
    assert (request.profile_id, request.image_id, request.ignored_keys) == ("cpu", None, 1)
    assert request.notice == 'The profile of your last start is not available any more; "CPU" starts instead.'
    assert _refused({"profile": "gone"}).reason is RefusalReason.UNKNOWN_PROFILE


@pytest.mark.parametrize(
    ("saved", "listed", "profile"),
    [
        ({"profile": "gone"}, ["cpu", "t4"], "cpu"),
        ({"profile": "gone"}, ["t4", "pairs"], "t4"),
        ({"profile": "a10g"}, ["t4"], "t4"),
        ({"profile": "a10g", "image": "gone"}, ["t4"], "t4"),
        ({"image": "gone"}, ["t4"], "t4"),
    ],
)
def test_o6_saved_options_fall_back_to_what_is_open_and_name_nothing_else(
    saved: dict[str, Any], listed: list[str], profile: str
) -> None:
    request = _parsed(saved, from_saved=True, listed=listed)
    assert request.profile_id == profile
    (name,) = [one.display_name for one in PROFILES if one.id == profile]
    assert request.notice == f'The profile of your last start is not available any more; "{name}" starts instead.'


def test_o6_nothing_chosen_is_the_default_also_where_it_is_closed() -> None:
    assert _parsed({}, from_saved=True, listed=["t4"]) == StartRequest("cpu")


def test_o6_saved_options_of_somebody_to_whom_nothing_is_open() -> None:
    refusal = _refused({"profile": "a10g"}, from_saved=True, listed=[])
    assert (refusal.reason, refusal.status) == (RefusalReason.NOT_ENTITLED, 403)
    assert "A10G" not in refusal.message


@pytest.mark.parametrize("stale", [{"image": "gone"}, {"gpus": 8}, {"image_unlisted": "evil.org/x"}])
def test_o6_saved_choices_that_are_gone_fall_back_within_the_profile(stale: dict[str, Any]) -> None:
    request = _parsed({"profile": "a10g", **stale}, from_saved=True)
    assert (request.profile_id, request.image_id, request.gpus) == ("a10g", None, 1)
    assert request.notice is not None
    assert "A10G" in request.notice


@pytest.mark.parametrize(
    "gpus",
    [
        "1e9",
        "1e0",
        1e9,
        1.0,
        "0",
        0,
        -1,
        "-1",
        5,
        "5",
        10**30,
        "9" * 400,
        True,
        "\uff12",
        " 1",
        "1 ",
        "0x1",
        {},
        [1, 2],
        "NaN",
    ],
)
def test_o8_gpu_counts_are_small_whole_numbers(gpus: Any) -> None:
    assert _refused({"profile": "a10g", "gpus": gpus}).reason is RefusalReason.INVALID_OPTIONS


@given(st.integers() | st.floats() | st.text(max_size=8) | st.text("0123456789e+-.", max_size=5))
def test_o8_no_number_field_exceeds_the_profile(gpus: Any) -> None:
    outcome = parse_options({"profile": "pairs", "gpus": gpus}, PROFILES)
    if isinstance(outcome, StartRequest):
        assert outcome.gpus in (2, 4, 6, 8)


def test_o8_profiles_without_a_choice_take_their_own_number_only() -> None:
    assert _parsed({"profile": "t4", "gpus": "1"}).gpus == 1
    assert "exactly 1 GPUs" in _refused({"profile": "t4", "gpus": 2}).message
    assert "no GPUs" in _refused({"profile": "cpu", "gpus": 1}).message
    assert "2 to 8 in steps of 2" in _refused({"profile": "pairs", "gpus": 3}).message


def test_spot_is_a_choice_only_where_it_is_offered() -> None:
    assert _parsed({"profile": "a10g", "spot": True}).spot
    assert "not offered on spot" in _refused({"profile": "t4", "spot": True}).message
    assert not _parsed({"profile": "spot", "spot": True}).spot
    assert not _parsed({"profile": "t4", "spot": "off"}).spot
