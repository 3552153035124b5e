"""What users send, by every road, to a real hub."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import jupyterhub
import pytest
import pytest_asyncio

from hubs import Hub, running_hub

pytestmark = pytest.mark.hub

OLD = jupyterhub.version_info[0] < 6
CANARY = "canary-in-a-body"


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def hub() -> AsyncIterator[Hub]:
    async with running_hub() as running:
        yield running


def deep(levels: int) -> list[Any]:
    nested: list[Any] = [CANARY]
    for _ in range(levels):
        nested = [nested]
    return nested


# JupyterHub 6 takes every empty body for none; those have their own test.
MALFORMED: dict[str, Any] = {
    "list": [CANARY],
    "string": CANARY,
    "number": 17,
    "deep": deep(100),
    "deep-object": {"profile": deep(100)},
    "5 MB": {"profile": "a10g", "more": CANARY * 330_000},
    "number as profile": {"profile": 1},
    "infinite GPUs": {"profile": "t4x", "gpus": float("inf")},
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
async def test_o1_malformed_bodies_are_refused_and_never_counted(
    hub: Hub, body: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await hub.user("mal")
    hub.failures = 3
    pods = len(hub.cluster.created)
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            status, answer = await hub.start("mal", body)
            assert status == 400, answer
    assert hub.failures == 3
    assert len(hub.cluster.created) == pods
    logged = "\n".join(caplog.handler.format(record) for record in caplog.records)
    assert "Traceback" not in logged
    assert CANARY not in logged
    assert len(logged) < 20_000
    assert (await hub.api("GET", "/users/mal"))[1]["servers"] == {}


@pytest.mark.parametrize("body", [[], "", 0, False], ids=repr)
async def test_o1_empty_bodies_that_are_no_object(hub: Hub, body: Any) -> None:
    await hub.user("empty")
    hub.failures = 0
    status, _ = await hub.start("empty", body)
    assert (status, hub.failures) == ((400, 0) if OLD else (201, 0))
    await hub.stop("empty")


async def test_o1_what_was_refused_is_not_what_is_saved(hub: Hub) -> None:
    await hub.user("ada")
    assert (await hub.start("ada", {"profile": "a10g", "image": "jax"}))[0] == 201
    await hub.stop("ada")
    for body in ([CANARY], {"profile": "gone"}, {"profile": "a100"}, {"profile": "a10g", "gpus": 5}):
        assert (await hub.start("ada", body))[0] >= 400
        assert hub.saved("ada") == {"profile": "a10g", "image": "jax"}


@pytest.mark.parametrize("body", [..., None], ids=["no body", "null"])
async def test_o1_null_means_the_saved_options(hub: Hub, body: Any) -> None:
    await hub.user("nora")
    await hub.start("nora", {"profile": "a10g", "image": "jax"})
    await hub.stop("nora")
    assert (await hub.start("nora", body))[0] == 201
    assert hub.cluster.created[-1]["spec"]["containers"][0]["image"] == "quay.io/site/jax:0.7"
    await hub.stop("nora")


async def test_o2_an_unknown_profile_gets_the_list_of_known_ones(hub: Hub) -> None:
    await hub.user("bob")
    status, answer = await hub.start("bob", {"profile": "<b>gone</b>"})
    assert status == 400
    assert "a10g" in answer["message"]
    assert "a100" not in answer["message"], "a profile of other groups is no choice of theirs"
    assert "gone" not in answer["message"]
    status, answer = await hub.start("bob", {"profile": "a10g", "image": "gone"})
    assert status == 400
    assert "jax" in answer["message"]


async def test_o2_the_form_says_it_on_its_page(hub: Hub) -> None:
    async with hub.browser("bea") as browser:
        status, page = await browser.post("/hub/spawn", {"profile": "gone"})
    assert status == 400
    assert "Choose one of" in page
    assert 'name="profile"' in page, "the cards are there to choose from"


async def test_o5_form_rest_query_and_saved_options_make_the_same_pod(hub: Hub) -> None:
    await hub.user("eva")
    made = []
    async with hub.browser("eva") as browser:
        fields = {"profile": "a10g", "profile-option-a10g--image": "jax", "profile-option-a10g--spot": "true"}
        assert (await browser.post("/hub/spawn", fields))[0] == 302
        made.append(await _take(hub, "eva"))
        assert (await hub.start("eva", {"profile": "a10g", "image": "jax", "spot": True}))[0] == 201
        made.append(await _take(hub, "eva"))
        assert (await hub.start("eva"))[0] == 201
        made.append(await _take(hub, "eva"))
        query = {"opt-profile": "a10g", "opt-image": "jax", "opt-spot": "true"}
        assert (await browser.get("/hub/spawn", **query))[0] == 302
        made.append(await _take(hub, "eva"))
    assert made[1:] == made[:-1]
    assert made[0]["metadata"]["labels"]["gpu-launcher/capacity"] == "spot-first"


async def _take(hub: Hub, user: str) -> dict[str, Any]:
    """Return the user's newest pod without what differs between any two starts, and stop it."""
    pod = hub.cluster.created[-1]
    assert pod["metadata"]["annotations"]["hub.jupyter.org/username"] == user
    del pod["metadata"]["uid"], pod["metadata"]["annotations"]["gpu-launcher/story"]
    container = pod["spec"]["containers"][0]
    container["env"] = [entry for entry in container["env"] if "TOKEN" not in entry["name"]]
    await hub.stop(user)
    return pod


async def test_o6_a_profile_that_is_gone(hub: Hub) -> None:
    await hub.user("old")
    hub.app.users["old"].get_spawner("") if OLD else hub.app.users["old"].get_or_create_spawner("", "")
    orm = hub.app.users["old"].orm_spawners[""]
    gone = {"profile": "gone"}
    orm.user_options = gone
    hub.app.db.commit()
    hub.app.users["old"].spawners.clear()

    async with hub.browser("old") as browser:
        _, page = await browser.get("/hub/spawn")
    assert "not available any more" in page

    status, answer = await hub.start("old", gone)
    assert (status, "Choose one of" in answer["message"]) == (400, True)
    assert hub.saved("old") == gone, "a repeated request is a request, also if it repeats what is saved"

    assert (await hub.start("old"))[0] == 201
    assert hub.cluster.created[-1]["metadata"]["labels"]["gpu-launcher/profile"] == "cpu"
    assert "not available any more" in hub.app.users["old"].spawner.notice
    await hub.stop("old")


async def test_o7_an_id_posted_directly_needs_the_group(hub: Hub) -> None:
    await hub.user("out")
    hub.failures = 0
    status, answer = await hub.start("out", {"profile": "a100"})
    assert (status, "reserved" in answer["message"], hub.failures) == (403, True, 0)
    async with hub.browser("out") as browser:
        _, page = await browser.get("/hub/spawn")
        assert 'value="a100"' not in page
        status, page = await browser.post("/hub/spawn", {"profile": "a100"})
        assert (status, "reserved" in page) == (403, True)
    await hub.user("inn", groups=("research",))
    assert (await hub.start("inn", {"profile": "a100"}))[0] == 201
    await hub.stop("inn")
