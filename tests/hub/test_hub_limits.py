"""Limits, two tabs, and the cluster's refusals, on a real hub."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import AsyncIterator
from typing import Any

import jupyterhub
import pytest
import pytest_asyncio

from hubs import Hub, api_error, running_hub
from spawners import DOCUMENT

pytestmark = pytest.mark.hub

OLD = jupyterhub.version_info[0] < 6
CANARY = "canary-in-an-error"
QUOTA = f'pods "jupyter-x" is forbidden: exceeded quota: gpus {CANARY}'


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def hub() -> AsyncIterator[Hub]:
    document: dict[str, Any] = copy.deepcopy(DOCUMENT)
    document["limits"] = {"gpus_per_user": 2}
    async with running_hub(document, KubeSpawner={"environment": {"SITE_SECRET": CANARY}}) as running:
        yield running


async def test_o12_over_the_limit_says_what_one_holds_and_how_to_free_it(hub: Hub) -> None:
    await hub.user("lim")
    assert (await hub.start("lim", {"profile": "t4x", "gpus": 2}, server="train"))[0] == 201
    hub.failures = 2
    status, answer = await hub.start("lim", {"profile": "a10g"})
    assert status == 403
    assert "limit" in answer["message"]
    assert '"train" (2 GPUs)' in answer["message"]
    assert "Stop a server" in answer["message"]
    assert hub.failures == 2
    async with hub.browser("lim") as browser:
        status, page = await browser.post("/hub/spawn", {"profile": "a10g"})
    assert (status, "Stop a server" in page) == (403, True)
    assert (await hub.start("lim", {"profile": "cpu"}))[0] == 201, "a server without GPUs is not limited"
    await hub.stop("lim")
    await hub.stop("lim", "train")
    assert (await hub.start("lim", {"profile": "a10g"}))[0] == 201
    await hub.stop("lim")


async def test_o12_two_tabs_at_once_do_not_both_pass(hub: Hub) -> None:
    await hub.user("tabs")
    body = {"profile": "t4x", "gpus": 2}
    answers = await asyncio.gather(*(hub.start("tabs", body, server=name) for name in ("one", "two", "three")))
    assert sorted(status for status, _ in answers) == [201, 403, 403]
    for name in ("one", "two", "three"):
        await hub.stop("tabs", name)


async def test_o12_others_are_a_number_and_never_a_name() -> None:
    document: dict[str, Any] = copy.deepcopy(DOCUMENT)
    document["profiles"][1]["limits"] = {"gpus_total": 1}
    async with running_hub(document) as hub:
        await hub.user("secretive")
        await hub.user("curious")
        assert (await hub.start("secretive", {"profile": "a10g"}))[0] == 201
        status, answer = await hub.start("curious", {"profile": "a10g"})
        assert (status, "1 GPU is held by others" in answer["message"]) == (403, True)
        assert "secretive" not in answer["message"]


async def test_o9_the_same_server_asked_for_twice_is_one_pod(hub: Hub) -> None:
    await hub.user("twice")
    before = len(hub.cluster.created)
    answers = await asyncio.gather(*(hub.start("twice", {"profile": "a10g"}) for _ in range(2)))
    assert 201 in [status for status, _ in answers]
    assert len(hub.cluster.created) == before + 1
    for _ in range(3):
        await hub.stop("twice")
        assert (await hub.start("twice", {"profile": "a10g"}))[0] == 201
    assert len([key for key in hub.cluster.pods if "twice" in key]) == 1
    await hub.stop("twice")


async def test_o12_a_start_that_failed_holds_nothing(hub: Hub) -> None:
    await hub.user("unlucky")
    body = {"profile": "t4x", "gpus": 2}
    hub.cluster.answers = [api_error(403, QUOTA)]
    assert (await hub.start("unlucky", body))[0] == 403
    assert (await hub.start("unlucky", body))[0] == 201
    await hub.stop("unlucky")


async def test_h4_refusals_by_the_cluster_are_not_counted_and_failures_are(hub: Hub) -> None:
    await hub.user("cap")
    hub.failures = 3
    for error in (api_error(403, QUOTA), api_error(422, "Pod is invalid"), api_error(400, "denied")) * 2:
        hub.cluster.answers = [error]
        status, _ = await hub.start("cap", {"profile": "a10g"})
        assert status in (403, 424)
        assert hub.failures == 3
    hub.cluster.answers = [api_error(401, "Unauthorized")]
    assert (await hub.start("cap", {"profile": "a10g"}))[0] == 500
    assert hub.failures == 4, "a failure of the hub's own stays one"
    assert (await hub.start("cap", {"profile": "a10g"}))[0] == 201
    assert hub.failures == 0
    await hub.stop("cap")


async def test_a_passing_trouble_of_the_api_server_is_tried_again(hub: Hub) -> None:
    await hub.user("again")
    hub.cluster.answers = [api_error(503, "etcd leader changed")]
    assert (await hub.start("again", {"profile": "a10g"}))[0] == 201
    await hub.stop("again")


@pytest.mark.parametrize("status", [401, 403, 422])
async def test_w7_neither_the_pod_nor_its_token_nor_an_errors_body_is_logged(
    hub: Hub, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    await hub.user("sec")
    seen: list[str] = []

    async def remember(namespace: str, pod: Any) -> None:
        env = {entry.name: entry.value for entry in pod.spec.containers[0].env}
        seen.append(env["JUPYTERHUB_API_TOKEN"])
        raise api_error(status, f"invalid env {seen[0]} {env['SITE_SECRET']} " + "x" * 2000)

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.DEBUG):
        patch.setattr(hub.cluster, "create_namespaced_pod", remember)
        await hub.start("sec", {"profile": "a10g"})
    logged = "\n".join(caplog.handler.format(record) for record in caplog.records)
    assert "pod not created" in logged
    assert "invalid env [hidden] [hidden] xxx" in logged, "hidden, not cut off"
    assert seen[0] not in logged
    assert CANARY not in logged
    assert "JUPYTERHUB_API_TOKEN" not in logged


async def test_c4_a_profile_that_no_machine_can_serve_is_refused_in_words(hub: Hub) -> None:
    await hub.user("opt")
    hub.failures = 1
    status, answer = await hub.start("opt", {"profile": "never"})
    assert (status, hub.failures) == (424, 1)
    assert "unavailable" in answer["message"]


async def test_c12_the_sites_hooks_run_around_a_start() -> None:
    ran: list[str] = []

    def note(name: str) -> Any:
        def hook(spawner: Any, *rest: Any) -> Any:
            ran.append(f"{name}:{spawner.plan.profile_id if spawner.plan else None}")
            return rest[0] if name == "modify_pod" else None

        return hook

    hooks = {
        "apply_user_options": note("apply_user_options"),
        "pre_spawn_hook": note("pre_spawn"),
        "modify_pod_hook": note("modify_pod"),
        "after_pod_created_hook": note("after_pod"),
        "post_stop_hook": note("post_stop"),
    }
    async with running_hub(KubeSpawner=hooks) as hub:
        await hub.user("hooked")
        assert (await hub.start("hooked", {"profile": "a10g"}))[0] == 201
        await hub.stop("hooked")
    names = ("apply_user_options", "pre_spawn", "modify_pod", "after_pod", "post_stop")
    assert ran == [f"{name}:a10g" for name in names]


async def test_h3_a_hook_that_raises_leaves_nothing_behind() -> None:
    def hook(spawner: Any) -> None:
        raise RuntimeError("site")

    document: dict[str, Any] = copy.deepcopy(DOCUMENT)
    document["limits"] = {"gpus_per_user": 1}
    async with running_hub(document, KubeSpawner={"pre_spawn_hook": hook}) as hub:
        await hub.user("h")
        for _ in range(2):
            assert (await hub.start("h", {"profile": "a10g"}))[0] == 500, "not over the limit: nothing is held"
        assert hub.cluster.pods == {}
