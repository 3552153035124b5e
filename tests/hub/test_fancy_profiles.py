"""jupyterhub-fancy-profiles renders our profiles, and what its form posts starts them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from hubs import running_hub
from spawners import DOCUMENT, Build, manifest

fancy = pytest.importorskip("jupyterhub_fancy_profiles")


async def listed(build: Build) -> list[dict[str, Any]]:
    """Return the profile list that the add-on's script gets."""
    spawner = build(KubeSpawner={"additional_profile_form_template_paths": fancy.TEMPLATE_PATHS})
    html = await spawner.get_options_form()
    match = re.search(r"window\.profileList = (.*);\n", html)
    assert match is not None
    profiles: list[dict[str, Any]] = json.loads(match[1])
    return profiles


async def test_its_form_shows_our_ids_words_and_choices(build: Build) -> None:
    profiles = {profile["slug"]: profile for profile in await listed(build)}
    assert list(profiles) == ["cpu", "a10g", "t4x"]
    assert profiles["cpu"]["default"] is True
    options = profiles["a10g"]["profile_options"]
    assert {key: choice["display_name"] for key, choice in options["image"]["choices"].items()} == {
        "pytorch": "PyTorch",
        "jax": "JAX",
    }
    assert list(profiles["t4x"]["profile_options"]["gpus"]["choices"]) == ["1", "2", "3", "4"]
    assert profiles["t4x"]["profile_options"]["image"]["unlisted_choice"]["enabled"] is True
    assert "kubespawner_override" not in json.dumps(list(profiles.values()))


async def test_what_a_start_may_become_is_a_choice_that_names_only_open_profiles(build: Build) -> None:
    h100 = {"id": "h100", "display_name": "H100", "gpu": {"name": "h100"}, "fallback": {"profiles": ["a100", "a10g"]}}
    spawner = build(document=DOCUMENT | {"profiles": [*DOCUMENT["profiles"], h100]})
    profiles = {profile["slug"]: profile for profile in spawner.profile_list}
    choices = profiles["h100"]["profile_options"]["fallback"]["choices"]
    assert choices["true"] == {"display_name": "start A10G instead", "default": False}
    assert choices["false"]["default"] is True
    assert not any("fallback" in profiles[key].get("profile_options", {}) for key in ("cpu", "a10g", "t4x"))


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (
            {"profile": "a10g", "profile-option-a10g--image": "jax", "profile-option-a10g--spot": "false"},
            {"profile": "a10g", "image": "jax"},
        ),
        (
            {"profile": "a10g", "profile-option-a10g--image": "pytorch", "profile-option-a10g--spot": "true"},
            {"profile": "a10g", "image": "pytorch", "spot": True},
        ),
        (
            {
                "profile": "t4x",
                "profile-option-t4x--gpus": "2",
                "profile-option-t4x--image": "unlisted-choice",
                "profile-option-t4x--image--unlisted-choice": "quay.io/site/own:1.0",
            },
            {"profile": "t4x", "gpus": 2, "image_unlisted": "quay.io/site/own:1.0"},
        ),
    ],
    ids=["listed image", "spot", "own image"],
)
async def test_what_it_posts_starts_the_profile(build: Build, fields: dict[str, str], body: dict[str, Any]) -> None:
    posted = build().options_from_form({name: [value] for name, value in fields.items()})
    assert await manifest(build(), posted) == await manifest(build(), body)


@pytest.mark.hub
async def test_c12_both_set_up_side_by_side_on_a_hub() -> None:
    site = {
        "JupyterHub": {"extra_handlers": [fancy.STATIC_HANDLER_TUPLE]},
        "KubeSpawner": {"additional_profile_form_template_paths": fancy.TEMPLATE_PATHS},
    }
    async with running_hub(**site) as hub, hub.browser("fan") as browser:
        _, page = await browser.get("/hub/spawn")
        assert "window.profileList" in page
        status, script = await browser.get("/hub/fancy-profiles/static/dist/form.js")
        assert (status, len(script) > 1000) == (200, True)
        fields = {"profile": "a10g", "profile-option-a10g--image": "jax"}
        assert (await browser.post("/hub/spawn", fields))[0] == 302
        assert hub.cluster.created[-1]["spec"]["containers"][0]["image"] == "quay.io/site/jax:0.7"
        await hub.stop("fan")
