"""The configuration document: strict, closed, every problem at once (rows C1, C2, C3, C5, C7, C11)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.domain.policy import Dialect, Mode
from gpu_launcher.domain.profile import Capacity, Fallback, GpuRequest, HeadroomBounds, Size
from gpu_launcher.domain.quantity import GIB, MIB
from gpu_launcher.settings import SettingsError, load_settings, settings_schema

A10G = {"id": "a10g", "display_name": "A10G", "gpu": {"name": "a10g"}}
T4 = {"id": "t4", "display_name": "T4", "gpu": {"name": "t4"}, "default": True}


def _problems(document: Any) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        load_settings(document)
    return list(refused.value.problems)


def _profile(**changes: Any) -> dict[str, Any]:
    return {"profiles": [A10G | changes]}


def test_an_empty_document_is_the_defaults() -> None:
    settings = load_settings({})
    assert [profile.id for profile in settings.profiles] == ["cpu", "t4", "l4", "a10g"]
    assert {profile.capacity for profile in settings.profiles} == {Capacity.ON_DEMAND}
    assert settings.profiles[0].default
    assert settings.cluster.disk_bytes == 200 * GIB
    assert (settings.headroom, settings.culling) == (Mode.OBSERVE, Mode.OBSERVE)


def test_everything_that_can_be_said() -> None:
    image = {"id": "torch", "display_name": "Torch", "reference": "quay.io/team/torch:1", "size": "9G"}
    settings = load_settings(
        {
            "version": 1,
            "profiles": [
                {
                    "id": "big",
                    "display_name": "Big",
                    "gpu": {"name": "a100", "count": 2, "max_count": 4, "memory": ">=80Gi", "host_gpus": [8]},
                    "capacity": "spot-first",
                    "images": [image],
                    "unlisted_image_pattern": r"quay\.io/team/.+",
                    "unlisted_image_hint": "any image of quay.io/team",
                    "size": {"cpu": "7.5", "memory": "30Gi", "ephemeral": "40Gi", "shm": "8Gi"},
                    "scratch": "20Gi",
                    "runtime_class": "nvidia",
                    "groups": ["vision"],
                    "limits": {"gpus_per_user": 2, "max_age": "36h"},
                    "node_selector": {"karpenter.k8s.aws/instance-family": "p4de"},
                    "start_timeout": "20m",
                    "headroom": {"min": 0, "max": 3},
                }
            ],
            "cluster": {"dialect": "eks-auto", "disk": "400Gi", "reserve": 0.05, "priority_class": "users"},
            "prices": {"discount": 0.1, "overrides": {"g5.xlarge": 0.8}},
            "limits": {"gpus_per_user": 2, "groups": {"vision": 8}},
            "headroom": {"mode": "off"},
        }
    )
    (profile,) = settings.profiles
    assert profile.gpu == GpuRequest("a100", 2, 81920, 4, (8,))
    assert profile.size == Size(7500, 30 * GIB, 40 * GIB, 8 * GIB)
    assert (profile.limits.max_age_s, profile.start_timeout_s) == (129600, 1200)
    assert profile.headroom == HeadroomBounds(0, 3)
    assert profile.images[0].bytes == 9_000_000_000
    assert settings.cluster.dialect is Dialect.EKS_AUTO
    assert settings.headroom is Mode.OFF
    assert settings.limits.groups == {"vision": 8}


def test_c1_a_duplicate_id_is_named_with_both_names() -> None:
    (problem,) = _problems({"profiles": [T4, A10G, A10G | {"display_name": "Other"}]})
    assert problem == ('profiles[2].id: a10g is the id of profiles[1] too ("A10G" and "Other"); give one another id')


def test_c1_two_defaults_are_named_with_both_names() -> None:
    (problem,) = _problems({"profiles": [T4, A10G | {"default": True}]})
    assert problem == 'profiles[1].default: profiles[0] is the default too ("T4" and "A10G"); keep one of them'


def test_c1_no_default_is_refused_unless_there_is_one_profile() -> None:
    (problem,) = _problems({"profiles": [A10G, T4 | {"default": False}]})
    assert problem.startswith("profiles: none is the default; set default: true")
    assert load_settings({"profiles": [A10G]}).profiles[0].id == "a10g"
    assert "profiles: is empty" in _problems({"profiles": []})[0]


def test_c1_duplicates_are_found_beside_other_problems() -> None:
    problems = _problems({"profiles": [T4, T4, A10G | {"gpu": {"count": 0}}]})
    assert len(problems) == 3


@pytest.mark.parametrize(
    "quantity",
    [
        "NaN",
        "Infinity",
        "-1",
        "1e400",
        "\uff11Gi",
        "1_000Mi",
        True,
        0.1,
        float("nan"),
        float("inf"),
        "",
        " 1Gi",
        -1,
        None,
    ],
)
@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("cluster.disk", lambda q: {"cluster": {"disk": q}}),
        ("cluster.daemonsets.cpu", lambda q: {"cluster": {"daemonsets": {"cpu": q}}}),
        ("profiles[0].size.memory", lambda q: _profile(size={"memory": q})),
        ("profiles[0].images[0].size", lambda q: _profile(images=[IMAGE | {"size": q}])),
    ],
)
def test_c2_what_is_no_quantity_is_refused_with_its_path(quantity: Any, path: str, place: Any) -> None:
    if quantity is None and not path.startswith("cluster"):
        return
    (problem,) = _problems(place(quantity))
    assert problem.startswith(f"{path}: ")
    assert "; write " in problem


IMAGE = {"id": "torch", "display_name": "Torch", "reference": "quay.io/team/torch:1"}


@given(disk=st.integers(10 * 1024, 10**6), cpu=st.integers(1, 10**5), reserve=st.floats(0, 0.2))
def test_c2_the_canonical_document_round_trips(disk: int, cpu: int, reserve: float) -> None:
    settings = load_settings(
        {"cluster": {"disk": f"{disk}Mi", "daemonsets": {"cpu": f"{cpu}m"}, "reserve": reserve}, "profiles": [A10G]}
    )
    again = load_settings(json.loads(settings.document))
    assert again == settings
    assert settings.cluster.disk_bytes == disk * MIB


@pytest.mark.parametrize("count", [0, -1, 0.5, 1.0, "1", True, None, 65, 10**9, "1e9", [1], {}])
@pytest.mark.parametrize("key", ["count", "max_count", "host_gpus"])
def test_c3_gpu_counts_are_whole_and_positive(count: Any, key: str) -> None:
    if count is None and key != "count":
        return
    value = [count] if key == "host_gpus" else count
    problems = _problems(_profile(gpu={"name": "a10g", key: value}))
    assert any(problem.startswith("profiles[0].gpu") for problem in problems)


@pytest.mark.parametrize(
    ("gpu", "words"),
    [
        ({"count": 2, "max_count": 3}, "not a multiple"),
        ({"count": 4, "max_count": 2}, "not a multiple"),
        ({"count": 2, "host_gpus": [1, 4]}, "none below the largest session (2 GPUs)"),
        ({"host_gpus": [4, 4]}, "must be different numbers"),
        ({"host_gpus": []}, "is empty"),
        ({"memory": "22Gi"}, 'write it as ">=22Gi"'),
        ({"memory": ">=0"}, "out of range"),
        ({"memory": ">=x"}, "not a quantity"),
        ({"name": "A10G"}, "lower case"),
    ],
)
def test_c3_impossible_gpu_wishes_are_refused(gpu: dict[str, Any], words: str) -> None:
    assert words in "".join(_problems(_profile(gpu=gpu)))


def test_sold_as_24_gb_is_what_a_24_gb_gpu_has() -> None:
    for memory in (">=24G", ">=22888Mi"):
        profile = load_settings(_profile(gpu={"memory": memory})).profiles[0]
        assert profile.gpu is not None
        assert profile.gpu.memory_mib_at_least == 22888


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"vresion": 1}, "vresion: is not a known key; did you mean version?"),
        ({"cluster": {"disc": "1Gi"}}, "cluster.disc: is not a known key; did you mean disk?"),
        (_profile(gpus=1), "profiles[0].gpus: is not a known key; did you mean gpu?"),
        (_profile(gpu={"nam": "a10g"}), "profiles[0].gpu.nam: is not a known key; did you mean name?"),
        (
            _profile(images=[IMAGE | {"tag": "1"}]),
            "profiles[0].images[0].tag: is not a known key; remove it (known: id, ",
        ),
        ({"prices": {"xyz": 1}}, "prices.xyz: is not a known key; remove it (known: discount, spot_ratio, overrides)"),
    ],
)
def test_c5_unknown_keys_are_refused_with_the_nearest(document: dict[str, Any], problem: str) -> None:
    (said,) = _problems(document)
    assert said.startswith(problem)


def test_c5_the_schema_is_closed_on_every_level() -> None:
    schema = settings_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for node in (schema, *schema["$defs"].values()):
        if "properties" in node:
            assert node["additionalProperties"] is False
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(json.loads(load_settings({}).document))
    assert not validator.is_valid({"profiles": [A10G | {"gpus": 1}]})
    assert not validator.is_valid({"cluster": {"disk": "1e400"}})


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"min": 3, "max": 1}, "max 1 is below min 3; raise max or lower min"),
        ({"min": -1}, "too small; use 0 or more"),
        ({"max": 10**6}, "too large; use 200 or less"),
        ({"max": 1.5}, "must be a whole number"),
        ({"max": True}, "must be a whole number"),
    ],
)
def test_c7_headroom_bounds(bounds: dict[str, Any], words: str) -> None:
    (problem,) = _problems(_profile(headroom=bounds))
    assert problem.startswith("profiles[0].headroom")
    assert words in problem


@pytest.mark.parametrize("age", ["4 hours", "P1D", "0s", "0", 4, 3600, True, 1.5, [], "-1h"])
def test_c11_a_maximum_age_is_a_duration(age: Any) -> None:
    (problem,) = _problems(_profile(limits={"max_age": age}))
    assert problem.startswith("profiles[0].limits.max_age: ")
    assert '; write a duration such as "36h"' in problem


@pytest.mark.parametrize("part", ["headroom", "culling"])
@pytest.mark.parametrize("mode", ["on", True])
def test_on_is_refused_until_the_controller_is_there(part: str, mode: Any) -> None:
    (problem,) = _problems({part: {"mode": mode}})
    assert problem.startswith(f'{part}.mode: "on" arrives with the controller and is not in this version')
    assert load_settings({part: {"mode": False}}).hash == load_settings({part: {"mode": "off"}}).hash


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (_profile(display_name=lambda spawner: "x"), "profiles[0].display_name: is a function; settings are data"),
        ({"profiles": lambda spawner: []}, "profiles: is a function"),
        (_profile(images=[IMAGE | {"size": object()}]), "profiles[0].images[0].size: is a object"),
        ({1: 2}, "document: the key 1 is not text"),
        ({"limits": {"groups": {5: 1}}}, "limits.groups: the key 5 is not text"),
        ({"version": 2}, "version: is not one of the choices; use 1"),
        ({"profiles": None}, "profiles: must be a list"),
        ({"cluster": []}, "cluster: must be a mapping"),
        (_profile(id="A_b"), "profiles[0].id: 'A_b' is not valid"),
        (_profile(id="a10g\n"), "profiles[0].id"),
        (_profile(display_name=""), "profiles[0].display_name: is empty"),
        ({"profiles": [{"id": "x", "display_name": "X"}]}, "profiles[0]: a profile without a GPU needs size.cpu"),
        ({"profiles": [{"display_name": "X", "gpu": {}}]}, "profiles[0].id: is missing; add it"),
        (_profile(capacity="spt"), "profiles[0].capacity: is not one of the choices; use 'on-demand'"),
        (_profile(capacity="spot", spot_choice=True), "spot_choice is for on-demand profiles"),
        (_profile(images=[IMAGE, IMAGE]), "image id torch is there twice"),
        (
            _profile(images=[IMAGE | {"reference": "a b"}]),
            "profiles[0].images[0].reference: 'a b' is not an image's name",
        ),
        (_profile(groups=["a", "a"]), "group a is there twice"),
        (_profile(unlisted_image_pattern="("), "is not a regular expression"),
        (
            _profile(unlisted_image_pattern="([a-z]+)+:b"),
            "profiles[0].unlisted_image_pattern: repeats a group that itself holds a repeat",
        ),
        (_profile(unlisted_image_pattern="(a*)*"), r"such as quay\.io/team/[a-z0-9./-]+:.+"),
        (_profile(unlisted_image_hint="any"), "unlisted_image_hint is for images that unlisted_image_pattern allows"),
        (_profile(scratch="20Gi", size={"ephemeral": "10Gi"}), "size.ephemeral is smaller than scratch"),
        (_profile(size={"memory": "4Gi", "shm": "8Gi"}), "shm is counted inside the memory"),
        (_profile(size={"cpu": "1m"}), "cpu is too small for a notebook; use 10m or more"),
        (_profile(size={"memory": 16}), "memory is too small for a notebook; use 64Mi or more"),
        (_profile(start_timeout="10s"), "start_timeout must be between 1 minute and 2 hours"),
        (_profile(node_selector={"a b": "x"}), "profiles[0].node_selector.a b: 'a b' is not valid"),
        (_profile(node_selector={"a": 8}), "profiles[0].node_selector.a: must be text; quote it"),
        (_profile(node_selector={"karpenter.sh/capacity-type": "spot"}), "use capacity"),
        (_profile(node_selector={"gpu-launcher/pool": "x"}), "is a label of pods"),
        ({"cluster": {"disk": "1Gi"}}, "cluster: disk must be between 10Gi and 64Ti"),
        ({"cluster": {"reserve": 0.5}}, "cluster.reserve: is too large; use 0.2 or less"),
        ({"cluster": {"reserve": float("nan")}}, "cluster.reserve: must be a finite number"),
        ({"prices": {"overrides": {"g5.xlarge": 0}}}, "prices.overrides.g5.xlarge: is too small; use more than 0"),
        ({"prices": {"overrides": {"g5.xlarge": float("inf")}}}, "prices.overrides.g5.xlarge: must be a finite number"),
        ({"prices": {"discount": 1}}, "prices.discount: is too large; use less than 1"),
        ({"limits": {"gpus_per_user": -1}}, "limits.gpus_per_user: is too small; use 0 or more"),
    ],
)
def test_problems_say_where_what_and_the_remedy(document: Any, words: str) -> None:
    problems = _problems(document)
    assert any(words in problem for problem in problems), problems
    assert all(": " in problem for problem in problems)


def _two(**fallback: Any) -> dict[str, Any]:
    return {"profiles": [T4, A10G | {"fallback": fallback}]}


def test_a_fallback_that_can_be_said() -> None:
    profile = load_settings(_two(any_zone=True, capacity="spot", profiles=["t4"])).profiles[1]
    assert profile.fallback == Fallback(Capacity.SPOT, ("t4",), any_zone=True)
    assert (profile.risky_fallback, profile.needs_consent) == (True, True)
    assert load_settings(_two()).profiles[1].fallback == Fallback()


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (
            {"profiles": [T4, A10G, A10G | {"id": "x", "fallback": {"profiles": ["a10"]}}]},
            "profiles[2].fallback.profiles[0]: a10 is the id of no profile; did you mean a10g?",
        ),
        (
            _two(profiles=["t4", "gone"]),
            "profiles[1].fallback.profiles[1]: gone is the id of no profile; remove it (known: t4, a10g)",
        ),
        (_two(profiles=["a10g"]), "profiles[1]: fallback.profiles names a10g itself; remove it there"),
        (_two(profiles=["t4", "t4"]), "profiles[1]: fallback.profiles names t4 twice; remove one"),
        (_two(profiles=["t4"] * 6), "profiles[1].fallback.profiles: has too many items; list at most 5"),
        (_two(profiles="t4"), "profiles[1].fallback.profiles: must be a list; begin each item with a hyphen"),
        (_two(zones=True), "profiles[1].fallback.zones: is not a known key; did you mean any_zone?"),
        (
            _two(capacity="reserved"),
            "profiles[1]: fallback.capacity reserved buys nothing that capacity on-demand does not; use spot-first or "
            "spot, or remove it",
        ),
        (
            _profile(capacity="spot-first", fallback={"capacity": "on-demand"}),
            "profiles[0]: fallback.capacity on-demand buys nothing that capacity spot-first does not; remove it",
        ),
        (
            _two(capacity="spot-first") | {"cluster": {"dialect": "gke"}},
            "profiles[1].fallback.capacity: gke labels cannot say capacity spot-first; use on-demand or spot",
        ),
    ],
)
def test_a_fallback_that_leads_nowhere_is_refused(document: dict[str, Any], problem: str) -> None:
    assert _problems(document) == [problem]


def test_unknown_profiles_of_fallbacks_are_found_beside_other_problems() -> None:
    document = {"profiles": [T4, A10G | {"gpu": {"count": 0}, "fallback": {"profiles": [7, "gone"]}}]}
    assert len(_problems(document)) == 3


@pytest.mark.parametrize("capacity", list(Capacity))
@pytest.mark.parametrize("other", list(Capacity))
def test_a_way_of_buying_adds_to_another_or_not(capacity: Capacity, other: Capacity) -> None:
    assert not (other.adds_to(capacity) and capacity is Capacity.SPOT_FIRST)
    assert not capacity.adds_to(capacity)
    assert other.adds_to(capacity) or capacity.adds_to(other) or capacity is other


def test_every_problem_is_reported_at_once() -> None:
    problems = _problems({"vresion": 1, "cluster": {"disk": True, "reserve": 5}, **_profile(gpu={"count": 0})})
    assert len(problems) == 4


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["version", "profiles", "id", "gpu", "count", "memory", "cluster", "disk", "size", "limits"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_c5_any_document_is_settings_or_problems(document: Any) -> None:
    try:
        load_settings(document if isinstance(document, dict) else {"profiles": document})
    except SettingsError as error:
        assert all(": " in problem for problem in error.problems)  # noqa: PT017


def test_the_hash_is_of_the_meaning_not_of_the_spelling() -> None:
    one = load_settings({"profiles": [A10G | {"size": {"memory": "8Gi", "cpu": "2"}}], "version": 1})
    other = load_settings({"version": 1, "profiles": [{"size": {"cpu": 2, "memory": 8 * GIB}, **A10G}]})
    assert one.hash == other.hash
    assert len(one.hash) == 12
    assert one.hash != load_settings({"profiles": [A10G]}).hash


def test_documents_nested_without_end_are_refused() -> None:
    endless: dict[str, Any] = {}
    endless["profiles"] = endless
    assert "nested too deeply" in _problems(endless)[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "is not valid YAML"),
        ("- 1", "is not a mapping"),
        ("version: 1\nversion: 1", "the key 'version' is there twice"),
        ("profiles:\n- id: a\n  id: b", "the key 'id' is there twice"),
        ("x: !!python/object/apply:os.system [id]", "is not valid YAML"),
        ("[" * 300, "is not valid YAML"),
    ],
)
def test_files_that_are_no_document(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    (problem,) = _problems(path)
    assert words in problem
    assert problem.startswith(str(path))


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("")
    assert load_settings(path).hash == load_settings({}).hash
    path.write_text("headroom: {mode: off}")
    assert load_settings(str(path)).headroom is Mode.OFF
    path.write_bytes(b"\xff\xfe\x00")
    assert "is not valid YAML" in _problems(path)[0]
    assert "cannot be read" in _problems(tmp_path / "missing.yaml")[0]
