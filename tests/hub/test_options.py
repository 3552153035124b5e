"""Fields of forms and queries, as a plain object."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.domain.outcomes import Refusal
from gpu_launcher.domain.request import StartRequest
from gpu_launcher.hub.options import options_from_fields, query_fields
from gpu_launcher.planning.options import parse_options
from gpu_launcher.settings import load_settings
from spawners import DOCUMENT


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, {}),
        ({"_xsrf": ["2|a"], "profile": ["t4"]}, {"profile": "t4"}),
        ({"profile": ["t4"], "image": []}, {"profile": "t4"}),
        ({"profile": ["t4", "a10g"]}, {"profile": ["t4", "a10g"]}),
        ({"profile": ["t4"], "own_file": [{"filename": "x", "body": b"y"}]}, {"profile": "t4"}),
    ],
)
def test_lists_of_one_become_their_item(fields: dict[str, list[object]], options: dict[str, object]) -> None:
    assert options_from_fields(fields) == options


@given(st.dictionaries(st.text(max_size=30), st.lists(st.text() | st.binary(), max_size=3), max_size=8))
def test_o3_any_fields_can_be_saved(fields: dict[str, list[object]]) -> None:
    assert json.dumps(options_from_fields(fields))


H100 = {"id": "h100", "display_name": "H100", "gpu": {"name": "h100"}, "fallback": {"profiles": ["a10g"]}}
PROFILES = load_settings(DOCUMENT | {"profiles": [*DOCUMENT["profiles"], H100]}).profiles


@pytest.mark.parametrize(
    ("fields", "request_"),
    [
        ({"profile": ["a10g"], "profile-option-a10g--image": ["jax"]}, StartRequest("a10g", "jax", gpus=1)),
        (
            {"profile": ["a10g"], "profile-option-t4x--gpus": ["2"], "node_selector": ["x"]},
            StartRequest("a10g", gpus=1, ignored_keys=2),
        ),
        (
            {"profile": ["t4x"], "image": ["a"], "profile-option-t4x--image--unlisted-choice": ["quay.io/site/x:1"]},
            StartRequest("t4x", image_reference="quay.io/site/x:1", gpus=1),
        ),
        (
            {"profile": ["h100"], "profile-option-h100--fallback": ["true"]},
            StartRequest("h100", gpus=1, fallback=True),
        ),
    ],
)
def test_o5_the_parser_knows_names_and_that_typed_text_wins(
    fields: dict[str, list[object]], request_: StartRequest
) -> None:
    assert parse_options(options_from_fields(fields), PROFILES) == request_


def test_o5_one_name_with_two_values_is_refused() -> None:
    refusal = parse_options(options_from_fields({"profile": ["a10g", "t4x"]}), PROFILES)
    assert isinstance(refusal, Refusal)
    assert "must be one value" in refusal.message


def test_o5_the_prefix_of_a_query_is_understood_and_hides_the_hubs_own_fields() -> None:
    assert query_fields({"opt-profile": ["a10g"], "next": ["/x"]}) == {"profile": ["a10g"]}
    assert query_fields({"profile": ["a10g"]}) == {"profile": ["a10g"]}
