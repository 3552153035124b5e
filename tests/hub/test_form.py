"""The spawn page's cards."""

from __future__ import annotations

import json
import time
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest
from bs4 import BeautifulSoup

from gpu_launcher.domain.pool_state import PoolState, PublishedState
from gpu_launcher.domain.usage import Person
from gpu_launcher.hub.cards import cards_of
from gpu_launcher.hub.form import render
from gpu_launcher.hub.offers import offers_of
from gpu_launcher.planning.options import LONGEST_UNLISTED
from spawners import DOCUMENT, Build

HOSTILE = "</script><script>alert(1)</script>{{ 7*7 }}\"'><img src=x onerror=alert(1)>"


async def page(spawner: Any) -> BeautifulSoup:
    return BeautifulSoup(await spawner.get_options_form(), "html.parser")


def radios(soup: BeautifulSoup) -> dict[str, Any]:
    return {radio["value"]: radio for radio in soup.select("input[name=profile]")}


async def test_cards_are_real_radios_in_the_admins_order_with_the_default_checked(build: Build) -> None:
    found = radios(await page(build(groups=("research",))))
    assert list(found) == ["cpu", "a10g", "t4x", "a100", "never"]
    assert all(radio["type"] == "radio" for radio in found.values())
    assert [name for name, radio in found.items() if radio.has_attr("checked")] == ["cpu"]


async def test_o7_profiles_of_other_groups_are_not_shown(build: Build) -> None:
    soup = await page(build())
    assert "a100" not in radios(soup)
    assert "A100" not in soup.get_text().replace("a100 80 GiB", "")


async def test_c4_an_unavailable_profile_is_shown_with_its_reason_and_cannot_be_picked(build: Build) -> None:
    radio = radios(await page(build()))["never"]
    assert radio.has_attr("disabled")
    card = radio.find_parent(class_="card")
    assert "no type has gpu name a100" in card.details.extract().get_text()
    assert "unavailable: no machine of this cluster can run this profile" in card.get_text()
    assert "no type" not in card.get_text(), "an admin's words are in the details only"


async def test_each_card_says_what_a_session_gets_and_costs(build: Build) -> None:
    soup = await page(build(groups=("research",)))
    words = {
        name: " ".join(radio.find_parent(class_="card").get_text().split()) for name, radio in radios(soup).items()
    }
    assert "A10G 24 GB 3.5 CPU · 13 GiB · 1 GPU" in words["a10g"]
    assert "$1.01/h" in words["a10g"]
    assert "spot: about $0.40/h, may end with 2 minutes' notice" in words["a10g"]
    assert "1 of 8 GPUs" in words["a100"]
    assert "? wait unknown, about 3.5 min (expected under 5 min) if a machine has to come" in words["a10g"]
    assert "wait unknown" in words["cpu"], "the image's size is unknown, so the wait is"


async def test_nothing_is_claimed_that_is_not_so(build: Build) -> None:
    assert "idle" not in (await page(build())).get_text(), (
        "nobody's session is ended for idleness in this configuration"
    )


async def test_only_what_can_be_chosen_is_shown_as_a_choice(build: Build) -> None:
    soup = await page(build(groups=("research",)))
    names = [field["name"] for field in soup.select("select, input:not([type=radio])")]
    assert names == [
        "profile-option-a10g--image",
        "profile-option-a10g--spot",
        "profile-option-t4x--image--unlisted-choice",
        "profile-option-t4x--gpus",
    ]
    gpus = soup.select_one("input[type=number]")
    assert gpus is not None
    assert (gpus["min"], gpus["max"], gpus["step"]) == ("1", "4", "1")


async def test_the_saved_choice_is_preselected(build: Build) -> None:
    spawner = build()
    spawner.user_options = {"profile": "a10g", "image": "jax", "spot": "true"}
    soup = await page(spawner)
    assert radios(soup)["a10g"].has_attr("checked")
    selected = soup.select_one("option[selected]")
    assert selected is not None
    assert selected["value"] == "jax"
    assert soup.select_one("input[type=checkbox][checked]")
    assert not soup.select("[role=status]")


@pytest.mark.parametrize("saved", [{"profile": "gone"}, {"profile": "a10g", "image": "gone"}, [HOSTILE], HOSTILE])
async def test_o6_a_saved_choice_that_is_gone_is_said(build: Build, saved: Any) -> None:
    spawner = build()
    spawner.user_options = saved
    soup = await page(spawner)
    assert len(soup.select("input[name=profile][checked]")) == 1
    if isinstance(saved, dict):
        notice = soup.select_one("[role=status]")
        assert notice is not None
        assert "not available any more" in notice.get_text()
    assert "gone" not in soup.get_text()


def default_is(profile: str) -> dict[str, Any]:
    return DOCUMENT | {"profiles": [one | {"default": one["id"] == profile} for one in DOCUMENT["profiles"]]}


@pytest.mark.parametrize("default", ["cpu", "a100", "never"])
@pytest.mark.parametrize("saved", ["gone", "a100", "never"])
async def test_o6_a_saved_profile_that_cannot_be_had_is_another_one_on_the_page_and_at_the_start(
    build: Build, saved: str, default: str
) -> None:
    spawner = build(document=default_is(default))
    spawner.orm_spawner.user_options = {"profile": saved}
    spawner.handler = None
    spawner.user_options = {"profile": saved}
    soup = await page(spawner)
    checked = [name for name, radio in radios(soup).items() if radio.has_attr("checked")]
    notice = soup.select_one("[role=status]")
    assert notice is not None
    assert notice.get_text() == 'The profile of your last start is not available any more; "CPU" starts instead.'
    await spawner._run_apply_user_options(spawner.user_options)
    assert spawner.plan is not None
    assert [spawner.plan.profile_id] == checked == ["cpu"]
    assert spawner.notice == notice.get_text()


def test_an_image_of_ones_own_is_asked_for_with_the_admins_hint() -> None:
    profile = {"id": "x", "display_name": "X", "gpu": {"name": "t4"}, "unlisted_image_pattern": "quay\\.io/.+"}
    hint = "any image of quay.io <b>"
    cards = cards_of(offers_of({"profiles": [profile | {"unlisted_image_hint": hint}]}), Person("ada"), None)
    field = BeautifulSoup(render(cards), "html.parser").select_one("input[type=text]")
    assert field is not None
    assert field["maxlength"] == str(LONGEST_UNLISTED)
    assert field.parent is not None
    assert hint in field.parent.get_text()


def hostile_document() -> dict[str, Any]:
    image = {"id": "i", "display_name": HOSTILE, "reference": "quay.io/site/a:1"}
    other = {"id": "j", "display_name": HOSTILE, "reference": "quay.io/site/b:1"}
    gpu = {"name": "t4"}
    return {
        "profiles": [
            {"id": "x", "display_name": HOSTILE, "description": HOSTILE, "gpu": gpu, "images": [image, other]},
        ]
    }


class Tags(HTMLParser):
    """Counts tags, and fails on handlers."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        assert tag != "img"
        assert not [name for name, _ in attrs if name.startswith("on")]


async def test_w2_hostile_words_stay_words(build: Build) -> None:
    spawner = build(document=hostile_document())
    spawner.user_options = {"profile": "x", "image": HOSTILE, "image--unlisted-choice": HOSTILE}
    html = await spawner.get_options_form()
    tags = Tags()
    tags.feed(html)
    assert tags.scripts == 1, "our own module"
    assert "alert(1)</script>" not in html
    assert "49" not in html, "nothing is rendered twice"


async def test_w2_profiles_published_as_json_survive_in_an_add_ons_script_block(build: Build) -> None:
    (entry,) = build(document=hostile_document()).profile_list
    assert json.loads(json.dumps(entry)) == entry


def test_nobody_may_use_anything_is_said_in_words() -> None:
    document = {"profiles": [{"id": "x", "display_name": "X", "gpu": {"name": "t4"}, "groups": ["others"]}]}
    soup = BeautifulSoup(render(cards_of(offers_of(document), Person("ada"), None)), "html.parser")
    assert "No profile is open to you" in soup.get_text()


async def test_a_form_of_the_sites_own_stays(build: Build) -> None:
    assert await build(KubeSpawner={"options_form": "<p>ours</p>"}).get_options_form() == "<p>ours</p>"


async def test_a_profile_template_of_the_sites_own_renders_our_profiles(build: Build) -> None:
    template = "{% for profile in profile_list %}[{{ profile.slug }}]{% endfor %}"
    assert await build(KubeSpawner={"profile_form_template": template}).get_options_form() == "[cpu][a10g][t4x]"


async def test_o12_the_page_says_how_many_gpus_one_holds(build: Build) -> None:
    spawner = build(document=DOCUMENT | {"limits": {"gpus_per_user": 2}}, server="second")
    assert "in use" not in (await page(spawner)).get_text()
    await build(server="train")._run_apply_user_options({"profile": "a10g"})
    words = (await page(spawner)).get_text()
    assert 'You: 1 of 2 GPUs in use (server "train", stop it)' in words


# What the cluster has now: four states, by shape and word.

NOW = time.time()


def publish(spawner: Any, *pools: PoolState) -> Any:
    state = PublishedState(time.time(), "", {pool.pool_id: pool for pool in pools})
    spawner.watch = SimpleNamespace(published=state, nodes=SimpleNamespace(all=lambda: ()))
    return spawner


def words_of(soup: BeautifulSoup, profile: str) -> str:
    return " ".join(radios(soup)[profile].find_parent(class_="card").get_text(" ").split())


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        (PoolState("a10g-1", ready={"": 1, "quay.io/site/pytorch:2.9": 1}), "● ready now, about "),
        (PoolState("a10g-1", starting=1), "◐ about "),
        (PoolState("a10g-1", no_capacity_since=NOW - 600), "✕ no capacity since "),
        (PoolState("a10g-1", unavailable="its NodePool is gone"), "✕ unavailable: its NodePool is gone"),
        (PoolState("other"), "? wait unknown"),
    ],
)
async def test_a_card_says_how_it_stands_by_shape_and_word_and_can_be_picked_all_the_same(
    build: Build, pool: PoolState, words: str
) -> None:
    soup = await page(publish(build(), pool))
    assert words in words_of(soup, "a10g")
    assert not radios(soup)["a10g"].has_attr("disabled")


async def test_a_profile_without_capacity_names_one_that_is_there(build: Build) -> None:
    gone = PoolState("a10g-1", no_capacity_since=NOW - 600)
    soup = await page(publish(build(), gone, PoolState("t4-1-of-4", ready={"": 1})))
    card = words_of(soup, "a10g")
    assert "✕ no capacity since" in card
    assert "try T4, one to four instead" in card


async def test_o12_a_limit_says_how_to_make_room_and_others_are_only_a_count(build: Build) -> None:
    limited = DOCUMENT | {"limits": {"gpus_per_user": 1}}
    await build(document=limited, server="train")._run_apply_user_options({"profile": "a10g"})
    await build(document=limited, user="bob", server="secret")._run_apply_user_options({"profile": "a10g"})
    soup = await page(build(document=limited))
    card = words_of(soup, "a10g")
    assert "✕ limit reached" in card
    assert 'You hold 1 GPU: "train" (1 GPU). Stop a server on the hub\'s home page to free its GPUs.' in card
    assert "✕" not in words_of(soup, "cpu"), "it needs no GPU"
    assert "bob" not in soup.get_text()
    assert "secret" not in soup.get_text()
    link = soup.find("a", string="stop it")
    assert link is not None
    assert link["href"] == "/hub/home"


def with_fallback(*ids: str) -> dict[str, Any]:
    """Return the document with fallbacks for the A10G."""
    fallback = {"fallback": {"profiles": list(ids)}}
    return DOCUMENT | {"profiles": [one | fallback if one["id"] == "a10g" else one for one in DOCUMENT["profiles"]]}


async def test_a_fallback_to_another_profile_is_asked_for_and_names_only_what_is_open(build: Build) -> None:
    spawner = build(document=with_fallback("t4x", "a100"))
    soup = await page(spawner)
    box = soup.select_one("input[name='profile-option-a10g--fallback']")
    assert box is not None
    assert not box.has_attr("checked")
    assert box.parent is not None
    assert " ".join(box.parent.get_text().split()) == "If there is none: start T4, one to four instead"
    spawner.user_options = {"profile": "a10g", "fallback": "true"}
    assert (await page(spawner)).select_one("input[name='profile-option-a10g--fallback'][checked]")


async def test_the_page_works_where_the_cluster_cannot_be_looked_at(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: Any) -> None:
        raise OSError("no route")

    spawner = build()
    monkeypatch.setattr(type(spawner), "watch_cluster", broken)
    assert "? wait unknown" in words_of(await page(spawner), "a10g")
