"""The controller as the chart runs it, under the chart's permissions: what it publishes, survives and is denied."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gpu_launcher.cluster.api import KubeApi, Raw
from gpu_launcher.cluster.errors import Forbidden
from gpu_launcher.cluster.informer import Informer
from gpu_launcher.cluster.paths import core, group
from gpu_launcher.cluster.state import is_current, state_of
from gpu_launcher.domain.pool_state import PoolState, PublishedState
from gpu_launcher.domain.stage import StartKind, StartOutcome
from gpu_launcher.domain.start import StartRecord
from gpu_launcher.lab.handle import Lab
from gpu_launcher.lab.install import find_chart
from gpu_launcher.telemetry.records import record_data
from provisioning import Pool, eventually
from sessions import NAMESPACE as SESSIONS
from sessions import document, session_pod

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

RELEASE = NAMESPACE = "seen"
NODE_POOL = "seen"
STATE = f"{RELEASE}-state"
POOL = "quarter"
IMAGE = "example.org/pytorch:2.9"
PROFILE = {
    "id": POOL,
    "display_name": "A10G, a quarter of a host",
    "gpu": {"name": "a10g", "count": 1, "host_gpus": [4]},
    "images": [{"id": "pytorch", "display_name": "PyTorch", "reference": IMAGE, "size": "8G"}],
    "node_selector": {"karpenter.sh/nodepool": NODE_POOL},
}
SETTINGS = document([PROFILE])
RBAC = "rbac.authorization.k8s.io/v1"


class Release:
    """The chart under a name of its own, and what its controller publishes."""

    def __init__(self, lab: Lab, api: KubeApi) -> None:
        self.lab = lab
        self.api = api

    async def install(self) -> None:
        """Install or upgrade, and wait until the controller is ready."""
        values = {"settings": SETTINGS, "controller": {"nodeSelector": {"gpu-launcher-lab/system": "true"}}}
        sets = [part for key, value in values.items() for part in ("--set-json", f"{key}={json.dumps(value)}")]
        where = ("--namespace", NAMESPACE, "--create-namespace", "--wait")
        await self.lab.helm("upgrade", "--install", RELEASE, str(find_chart()), *sets, *where)

    async def state(self) -> PublishedState | None:
        """What a hub would believe now; None is unknown."""
        found = state_of(await self.api.get(core("configmaps", namespace=NAMESPACE, name=STATE)))
        return found if found and is_current(found, time.time()) else None

    async def pool(self) -> PoolState | None:
        state = await self.state()
        return next(iter(state.pools.values()), None) if state else None

    async def until(self, holds: Callable[[PoolState], bool], what: str, within: float = 30) -> PoolState:
        """Wait until the published pool is as wanted, and return it."""
        last: list[PoolState | None] = [None]

        async def published() -> PoolState | None:
            last[0] = await self.pool()
            return last[0] if last[0] and holds(last[0]) else None

        try:
            found: PoolState = await eventually(published, within, what)
        except AssertionError as error:
            raise AssertionError(f"{error}; published: {last[0]}; log: {self.log()[-2000:]}") from None
        return found

    async def pod(self) -> Raw:
        """The controller's pod."""
        labels = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component=controller"
        (pod,) = (await self.api.get(core("pods", namespace=NAMESPACE), labelSelector=labels))["items"]
        found: Raw = pod
        return found

    def files(self, name: str) -> Path:
        """A file of the newest controller pod: ``controller.log``, ``controller.pid``."""
        return max(self.lab.paths.pods.glob(f"{NAMESPACE}_*/{name}"), key=lambda path: path.stat().st_mtime)

    def log(self) -> str:
        return self.files("controller.log").read_text()

    async def kill(self) -> None:
        """Kill the controller's process as the kernel would, and wait until the next one is ready."""
        before = (await self.pod())["status"]["containerStatuses"][0]["restartCount"]
        os.kill(int(self.files("controller.pid").read_text()), signal.SIGKILL)

        async def restarted() -> bool:
            status = (await self.pod())["status"]["containerStatuses"][0]
            return bool(status["restartCount"] > before and status["ready"])

        await eventually(restarted, 60, "the controller is started again and ready")

    async def url(self) -> str:
        return f"http://{(await self.pod())['status']['podIP']}:8081"

    async def token(self) -> str:
        secret = await self.api.get(core("secrets", namespace=NAMESPACE, name=f"{RELEASE}-controller"))
        return base64.b64decode(secret["data"]["token"]).decode()


@pytest.fixture(scope="module")
async def release(lab: Lab, api: KubeApi) -> AsyncIterator[Release]:
    machines = Pool(api, NODE_POOL)
    await machines.create(["g5.12xlarge"], ["on-demand"], "4s")
    made = Release(lab, api)
    await made.install()
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "hub", "namespace": NAMESPACE}}
    await api.patch(
        core("serviceaccounts", namespace=NAMESPACE, name="hub"), account, "apply", field_manager="test", force=True
    )
    yield made
    await lab.helm("uninstall", RELEASE, "--namespace", NAMESPACE)
    await api.delete(core("namespaces", name=NAMESPACE))
    await api.delete(core("pods", namespace=SESSIONS), labelSelector=f"gpu-launcher/profile={POOL}")
    await machines.remove()


async def test_slots_are_published_as_they_come_are_used_and_given_back(release: Release, api: KubeApi) -> None:
    nothing = await release.until(lambda pool: pool.ready[""] == 0, "nothing is there")
    assert (nothing.starting, nothing.in_use, nothing.lead, nothing.unavailable) == (0, 0, None, "")
    assert nothing.usd_per_hour is not None
    assert 0 < nothing.usd_per_hour < 2

    await api.post(core("pods", namespace=SESSIONS), await session_pod(SETTINGS, "seen-1", POOL))
    # The fourth slot of the machine that comes is the session's that waits for it.
    await release.until(lambda pool: pool.starting == 3, "three of four slots on their way are nobody's")
    used = await release.until(lambda pool: pool.in_use == 1 and pool.ready.get(IMAGE) == 3, "one used, three ready")
    assert (used.ready[""], used.starting) == (3, 0)
    assert used.lead is not None
    assert used.lead.count == 1
    assert 2 < used.lead.p50_s < 60

    await api.delete(core("pods", namespace=SESSIONS, name="seen-1"))
    free = await release.until(lambda pool: pool.in_use == 0, "the session's slot is given back")
    assert free.ready == {"": 4, IMAGE: 4}


async def test_a_controller_that_is_killed_comes_back_and_goes_on(release: Release) -> None:
    before = await release.state()
    assert before is not None
    await release.kill()
    killed_at = time.time()

    async def renewed() -> PublishedState | None:
        state = await release.state()
        return state if state and state.observed_at > killed_at - 1 else None

    after = await eventually(renewed, 30, "the state is renewed")
    assert after.unknown == ()
    assert set(after.pools) == set(before.pools)
    assert after.config_hash == before.config_hash


async def test_it_ends_when_told_to_and_its_successor_goes_on(release: Release, api: KubeApi) -> None:
    old, log = await release.pod(), release.files("controller.log")
    told_at = time.time()
    await api.delete(core("pods", namespace=NAMESPACE, name=old["metadata"]["name"]))

    async def ended() -> bool:
        return "controller ended" in log.read_text()

    # Well within its grace period, after which it would be killed.
    await eventually(ended, 8, "the controller says that it ended")

    async def renewed() -> bool:
        state = await release.state()
        return bool(state and state.observed_at > told_at + 1 and state.pools)

    await eventually(renewed, 40, "its successor publishes")


async def test_a_missing_permission_makes_the_state_unknown_and_the_log_names_it(
    release: Release, api: KubeApi
) -> None:
    path = group(RBAC, "clusterroles", name=f"{NAMESPACE}-{RELEASE}-controller")
    rules: list[Any] = (await api.get(path))["rules"]
    lessened = [rule | {"resources": [one for one in rule["resources"] if one != "pods"]} for rule in rules]
    await api.patch(path, {"rules": lessened})
    try:
        await release.kill()

        async def unknown() -> PublishedState | None:
            state = await release.state()
            return state if state and state.unknown else None

        state = await eventually(unknown, 30, "the state says that it is unknown")
        assert (state.unknown, state.pools) == (("pods",), {})
        assert 'cannot list resource "pods" in API group ""' in release.log()
    finally:
        await api.patch(path, {"rules": rules})

    async def known() -> bool:
        state = await release.state()
        return bool(state and state.pools and not state.unknown)

    await eventually(known, 45, "with the permission back the state is known again")


async def test_the_hub_reads_this_one_object_and_changes_nothing(lab: Lab, release: Release) -> None:
    maps = core("configmaps", namespace=NAMESPACE)
    async with lab.api(await lab.token_kubeconfig(NAMESPACE, "hub")) as hub:
        assert state_of(await hub.get(f"{maps}/{STATE}")) is not None
        async with Informer(hub, maps, fieldSelector=f"metadata.name={STATE}") as informer:
            heard: list[str] = []
            informer.subscribe(lambda _, raw: heard.append(raw["metadata"]["resourceVersion"]))

            async def told_twice() -> bool:
                return len(set(heard)) > 1

            await eventually(told_twice, 25, "the watch tells of the next renewal")
        for refused in (
            hub.get(maps),
            hub.get(f"{maps}/{RELEASE}-settings"),
            hub.patch(f"{maps}/{STATE}", {"data": {}}),
            hub.delete(f"{maps}/{STATE}"),
        ):
            with pytest.raises(Forbidden):
                await refused


async def test_the_controller_writes_no_other_object(lab: Lab, release: Release) -> None:
    maps = core("configmaps", namespace=NAMESPACE)
    async with lab.api(await lab.token_kubeconfig(NAMESPACE, f"{RELEASE}-controller")) as controller:
        for refused in (
            controller.patch(f"{maps}/{RELEASE}-settings", {"data": {}}),
            controller.delete(f"{maps}/{STATE}"),
            controller.post(maps, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more"}}),
            controller.get(core("secrets", namespace=NAMESPACE)),
            controller.delete(core("pods", namespace=NAMESPACE)),
        ):
            with pytest.raises(Forbidden):
                await refused


async def test_an_upgrade_keeps_the_secret_and_the_state(release: Release) -> None:
    token = await release.token()
    assert len(token) == 48
    await release.install()
    assert await release.token() == token
    assert await release.pool() is not None


async def test_its_port_answers_whom_it_should(release: Release) -> None:
    url, token = await release.url(), await release.token()
    async with aiohttp.ClientSession() as session:

        async def ask(path: str, **headers: str) -> tuple[int, str]:
            async with session.get(f"{url}{path}", headers=headers) as answer:
                return answer.status, await answer.text()

        async def post(token: str, record: object) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            async with session.post(f"{url}/api/v1/starts", json=record, headers=headers) as answer:
                return answer.status

        assert [(await ask(path))[0] for path in ("/healthz", "/readyz")] == [200, 200]
        status, metrics = await ask("/metrics")
        assert status == 200
        assert 'gpu_launcher_pool_slots{pool="' in metrics
        record = StartRecord(POOL, "a10g-4", StartKind.COLD, StartOutcome.READY, "", time.time(), 42.0)
        assert await post("wrong", record_data(record)) == 403
        assert await post(token, ["no record"]) == 400
        assert await post(token, record_data(record)) == 204
        assert 'gpu_launcher_start_records_total{outcome="ready"} 1.0' in (await ask("/metrics"))[1]
