"""Interrupted starts, as far as no cluster is needed: what a broken connection or a strange pod leads to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ServerDisconnectedError
from jupyterhub import orm

from gpu_launcher.cluster.parse import pod_view
from gpu_launcher.domain.profile import Capacity
from gpu_launcher.explain.story import begin, load_story
from gpu_launcher.hub.adoption import STORY, _plan_of
from gpu_launcher.hub.spawner import GpuSpawner
from gpu_launcher.planning.placement import CAPACITY_LABEL
from hubs import Hub, api_error, running_hub
from spawners import Build, FakeReflector

pytestmark = pytest.mark.hub


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def hub() -> AsyncIterator[Hub]:
    async with running_hub() as running:
        yield running


@pytest.mark.parametrize("error", [ServerDisconnectedError(), ConnectionResetError(), TimeoutError()])
async def test_h1_a_create_whose_answer_never_came_is_one_pod(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    user = f"torn-{type(error).__name__.lower()}"
    await hub.user(user)
    create, broken = hub.cluster.create_namespaced_pod, [error]

    async def breaking(namespace: str, pod: Any) -> Any:
        if f"{namespace}/{pod.metadata.name}" in hub.cluster.pods:
            raise api_error(409, "already exists")
        made = await create(namespace, pod)
        if broken:
            raise broken.pop()
        return made

    monkeypatch.setattr(hub.cluster, "create_namespaced_pod", breaking)
    before = len(hub.cluster.created)
    assert (await hub.start(user, {"profile": "a10g"}))[0] == 201
    assert len(hub.cluster.created) == before + 2, "the pod that nobody knew the name of gave way to another"
    assert len([key for key in hub.cluster.pods if user in key]) == 1
    await hub.stop(user)
    assert not [key for key in hub.cluster.pods if user in key]


async def test_a_create_that_succeeds_as_the_hub_gives_up_waiting_for_it_is_not_sent_again(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_s, created = 0.01, []

    class Late:
        async def create_namespaced_pod(self, namespace: str, pod: Any) -> Any:
            # A busy hub: both times are over before the loop looks at either.
            asyncio.get_running_loop().call_later(wait_s / 2, time.sleep, wait_s)
            await asyncio.sleep(wait_s + 0.001)
            created.append(pod)
            return pod

    spawner = build()
    monkeypatch.setattr(spawner, "api", Late())
    pod = SimpleNamespace(metadata=SimpleNamespace(name="late"))
    while not await spawner._make_create_pod_request(pod, wait_s):
        pass
    assert created == [pod]


async def test_h5_a_stopped_start_that_waits_for_its_turn_asks_the_cluster_for_nothing() -> None:
    slow = {"tornado_settings": {"slow_spawn_timeout": 0}}
    async with running_hub(GpuSpawner={"concurrent_creates": 1}, JupyterHub=slow) as hub:
        create, go_on = hub.cluster.create_namespaced_pod, asyncio.Event()

        async def held(namespace: str, pod: Any) -> Any:
            await go_on.wait()
            return await create(namespace, pod)

        hub.cluster.create_namespaced_pod = held  # type: ignore[method-assign]
        for user in ("first", "second", "third"):
            await hub.user(user)
            assert (await hub.start(user, {"profile": "a10g"}))[0] == 202
        await hub.stop("second")
        go_on.set()
        async with asyncio.timeout(10):
            while len(hub.cluster.pods) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        made = [pod["metadata"]["annotations"]["hub.jupyter.org/username"] for pod in hub.cluster.created]
        assert made == ["first", "third"]
        for user in ("first", "third"):
            await hub.stop(user)


def checked(build: Build, pod: Any, reflector: FakeReflector, options: Any = None) -> GpuSpawner:
    """A spawner of a server that a restarted hub looks after, and what the cluster has under its pod's name."""
    spawner = build()
    server = orm.Server(proto="http", ip="", port=8888, base_url="/user/ada/", cookie_name="cookie")
    spawner.orm_spawner.server, spawner.orm_spawner.state = server, {}
    spawner.orm_spawner.started, spawner.orm_spawner.user_options = datetime(2026, 1, 1), options
    spawner._check_pending = True
    reflector.pods[f"{spawner.namespace}/{spawner.pod_name}"] = pod
    return spawner


@pytest.mark.parametrize(
    "pod",
    [
        None,
        7,
        {},
        {"metadata": 7},
        {"metadata": {"name": "x", "uid": "1", "annotations": None}},
        {"metadata": {"name": "x", "uid": "1", "annotations": {STORY: "{"}}},
        {"metadata": {"name": "x", "uid": "1", "annotations": {STORY: "[" * 10_000}}},
        {"metadata": {"name": "x", "uid": "1", "annotations": {STORY: '{"version":1,"began":"?"}'}}, "status": []},
    ],
)
async def test_h1_whatever_the_pod_looks_like_the_hubs_start_goes_on(
    build: Build, reflector: FakeReflector, pod: Any
) -> None:
    spawner = checked(build, pod, reflector)
    assert await spawner.get_url() == spawner.server.url
    assert spawner._spawn_future is None
    assert not spawner.pending or spawner.pending == "check"


@pytest.mark.parametrize(
    ("options", "profile"), [({"profile": "a10g"}, "a10g"), ({"profile": ["x"]}, ""), ("text", ""), (None, "")]
)
async def test_h1_a_start_without_a_pod_ends_with_that_reason(
    build: Build, reflector: FakeReflector, options: Any, profile: str
) -> None:
    spawner = checked(build, None, reflector, options)
    del reflector.pods[f"{spawner.namespace}/{spawner.pod_name}"]
    assert await spawner.poll() == 1
    refused = spawner._spawn_future.exception()
    assert refused.refusal.reason == "hub_restarted"
    assert refused.reference
    record = GpuSpawner.history.records[-1]
    assert (record.outcome, record.reason, record.profile_id) == ("lost", "hub_restarted", profile)
    assert record.began_at == datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    for task in [task for task in asyncio.all_tasks() if "_late_pod" in str(task)]:
        task.cancel()


async def test_h1_a_server_that_had_run_did_not_end_by_the_restart(build: Build, reflector: FakeReflector) -> None:
    spawner = checked(build, None, reflector)
    del reflector.pods[f"{spawner.namespace}/{spawner.pod_name}"]
    spawner.orm_spawner.server.ip = spawner.server.ip = "10.0.0.1"
    assert await spawner.poll() == 1
    assert spawner._spawn_future is None


async def test_h9_a_pod_without_our_labels_is_a_plan_all_the_same(build: Build) -> None:
    raw = {"metadata": {"name": "x", "namespace": "default", "uid": "1", "labels": None}, "spec": {"containers": []}}
    pod = pod_view(raw)
    assert pod is not None
    assert Capacity(_plan_of(pod, 300).labels[CAPACITY_LABEL]) is Capacity.ON_DEMAND


async def test_h1_the_story_is_kept_now_and_then(build: Build, reflector: FakeReflector) -> None:
    spawner, commits = checked(build, None, reflector), []
    spawner.user.db = SimpleNamespace(commit=lambda: commits.append(1))
    story = begin("A10G", "", time.time() - 3)
    spawner.start_under_way = SimpleNamespace(story=story)
    spawner._told_at = time.time() + 60
    spawner.tell_time()
    assert not commits, "a start of a few seconds costs the database nothing"
    spawner.start_under_way = SimpleNamespace(story=replace(story, began_at=story.began_at - 3))
    spawner.tell_time()
    spawner.tell_time()
    assert len(commits) == 1
    assert load_story(spawner.orm_spawner.state["gpu_launcher_story"]) == spawner.story
    spawner.start_under_way = SimpleNamespace(story=replace(spawner.story, zone="us-east-1a"))
    spawner.tell_time()
    assert len(commits) == 1


async def test_a_hub_that_may_not_look_starts_servers_as_kubespawner_does() -> None:
    async with running_hub() as hub:
        hub.cluster.hidden = True
        await hub.user("blind")
        assert (await hub.start("blind", {"profile": "cpu"}))[0] == 201
