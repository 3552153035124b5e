"""Fields of forms and queries, reduced to our keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.hub.options import options_from_fields, query_fields


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, {}),
        ({"_xsrf": ["2|a"]}, {}),
        ({"profile": ["a10g"]}, {"profile": "a10g"}),
        ({"profile": ["a10g"], "profile-option-a10g--image": ["jax"]}, {"profile": "a10g", "image": "jax"}),
        ({"profile": ["a10g"], "profile-option-t4--image": ["jax"]}, {"profile": "a10g"}),
        ({"profile": ["a10g"], "image": ["jax"], "gpus": ["2"]}, {"profile": "a10g", "image": "jax", "gpus": "2"}),
        ({"profile": ["t4"], "profile-option-t4--spot": ["true"]}, {"profile": "t4", "spot": "true"}),
        ({"profile": ["t4"], "image": ["a"], "image--unlisted-choice": [""]}, {"profile": "t4", "image": "a"}),
        (
            {"profile": ["t4"], "image": ["a"], "image--unlisted-choice": ["quay.io/x:1"]},
            {"profile": "t4", "image--unlisted-choice": "quay.io/x:1"},
        ),
        ({"node_selector": ["x"], "kubespawner_override": ["y"], "profile": ["t4"]}, {"profile": "t4"}),
    ],
)
def test_o3_only_our_keys_are_left(fields: dict[str, list[object]], options: dict[str, object]) -> None:
    assert options_from_fields(fields) == options


@given(st.dictionaries(st.text(max_size=30), st.lists(st.text() | st.binary(), max_size=3), max_size=8))
def test_o3_any_fields_are_reduced(fields: dict[str, list[object]]) -> None:
    assert set(options_from_fields(fields)) <= {"profile", "image", "image--unlisted-choice", "gpus", "spot"}


def test_o5_the_prefix_of_a_query_is_understood_and_hides_the_hubs_own_fields() -> None:
    assert query_fields({"opt-profile": ["a10g"], "next": ["/x"]}) == {"profile": ["a10g"]}
    assert query_fields({"profile": ["a10g"]}) == {"profile": ["a10g"]}
