"""The pages of a start on a real hub: whose server their buttons are about, and that the hub takes what they send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from bs4 import BeautifulSoup

from browsers import Browser
from hubs import Hub, api_error, running_hub

pytestmark = pytest.mark.hub


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def hub() -> AsyncIterator[Hub]:
    async with running_hub(Authenticator={"admin_users": {"root"}}) as running:
        yield running


@pytest.fixture
def waiting(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pods be created and never run."""
    create = hub.cluster.create_namespaced_pod

    async def unscheduled(namespace: str, pod: Any) -> Any:
        made = await create(namespace, pod)
        raw = hub.cluster.pods[f"{namespace}/{pod.metadata.name}"]
        raw["status"] = {"phase": "Pending"}
        hub.cluster._changed("MODIFIED", raw)
        return made

    monkeypatch.setattr(hub.cluster, "create_namespaced_pod", unscheduled)


async def start(hub: Hub, user: str, server: str | None = None) -> None:
    await hub.user(user)
    asked = asyncio.create_task(hub.start(user, {"profile": "a10g"}, server))
    for _ in range(200):
        await asyncio.sleep(0.02)
        spawner = hub.app.users[user].spawners.get(server or "")
        if spawner and spawner.story:
            break
    asked.cancel()


async def page_of(browser: Browser, user: str, server: str = "") -> tuple[int, Any]:
    path = "/".join(["/hub/spawn-pending", quote(user), *([quote(server)] if server else [])])
    status, html = await browser.get(path)
    return status, BeautifulSoup(html, "html.parser").select_one("#gpu-launcher-start")


async def delete(browser: Browser, url: str) -> int:
    async with browser.session.delete(browser.url + url, headers={"Content-Type": "application/json"}) as answer:
        return answer.status


async def test_stop_on_the_page_of_a_named_server_ends_that_one_alone(hub: Hub, waiting: None) -> None:
    await start(hub, "named")
    await start(hub, "named", "train")
    async with hub.browser("named") as browser:
        status, page = await page_of(browser, "named", "train")
        assert (status, page["data-phase"]) == (200, "pending")
        assert page.h1.get_text() == 'Starting A10G for "train"'
        assert await delete(browser, page["data-server"]) in (202, 204)
    spawners = hub.app.users["named"].spawners
    assert not spawners["train"].active
    assert spawners[""].pending == "spawn"
    await hub.stop("named")


async def test_an_admin_who_looks_stops_the_server_that_is_shown(hub: Hub, waiting: None) -> None:
    await start(hub, "looked-at")
    async with hub.browser("root") as browser:
        _, page = await page_of(browser, "looked-at")
        assert await delete(browser, page["data-server"]) in (202, 204)
    assert not hub.app.users["looked-at"].spawners[""].active


async def test_w3_without_the_token_nothing_is_stopped(hub: Hub, waiting: None) -> None:
    await start(hub, "forged")
    async with hub.browser("forged") as browser:
        _, page = await page_of(browser, "forged")
        assert await delete(browser, page["data-server"].split("?")[0]) == 403
    assert hub.app.users["forged"].spawners[""].pending == "spawn"
    await hub.stop("forged")


async def test_a_stopped_start_leaves_a_page_in_another_tab(hub: Hub, waiting: None) -> None:
    await start(hub, "two-tabs")
    await hub.stop("two-tabs")
    async with hub.browser("two-tabs") as browser:
        status, _ = await browser.get("/hub/spawn-pending/two-tabs")
        assert status < 500


async def test_a_failure_says_why_and_its_button_starts_again(hub: Hub) -> None:
    await hub.user("refused")
    hub.cluster.answers = [api_error(403, 'pods "x" is forbidden: exceeded quota: gpus')]
    await hub.start("refused", {"profile": "a10g", "image": "jax"})
    async with hub.browser("refused") as browser:
        status, page = await page_of(browser, "refused")
        assert status == 403
        assert page["data-phase"] == "ended"
        assert "quota" in page.select_one("[role=alert]").get_text()
        again = page.select_one('[data-part="again"]')
        fields = {field["name"]: field["value"] for field in again.select("input")}
        assert {**fields, "_xsrf": ""} == {"_xsrf": "", "profile": "a10g", "image": "jax"}
        # As the browser posts it: the token is in the form and nowhere else.
        async with browser.session.post(hub.url + again["action"], data=fields, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (302, "/hub/spawn-pending/refused")
    spawner = hub.app.users["refused"].spawners[""]
    assert (spawner.ready, spawner.image) == (True, "quay.io/site/jax:0.7")
    await hub.stop("refused")


async def test_a_defect_shows_nothing_of_the_exception(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("canary in a defect")

    await hub.user("defect")
    monkeypatch.setattr(hub.cluster, "create_namespaced_pod", broken)
    await hub.start("defect", {"profile": "a10g"})
    async with hub.browser("defect") as browser:
        _, page = await page_of(browser, "defect")
    words = page.get_text()
    assert "the fault is not yours" in words
    assert "canary" not in words
    assert "RuntimeError" not in words


async def test_w9_the_hubs_own_policy_for_embedding_stays(hub: Hub, waiting: None) -> None:
    await start(hub, "framed")
    url = f"{hub.url}/hub/spawn-pending/framed"
    async with hub.browser("framed") as browser, browser.session.get(url) as answer:
        assert answer.status == 200
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    await hub.stop("framed")
