"""Real Karpenter on the lab's cloud: what a GPU pod gets, and what it gets when the cloud does not play along."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest

from gpu_launcher.cluster.api import KubeApi, Raw
from gpu_launcher.cluster.paths import core, group
from gpu_launcher.domain.quantity import parse_bytes, parse_cpu
from gpu_launcher.lab.handle import Lab, running_lab
from gpu_launcher.lab.settings import LabSettings
from gpu_launcher.settings.catalogue import load_catalogue
from provisioning import CAPACITY_TYPE, GPU, INSTANCE_TYPE, KARPENTER, Pool, eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

AWS = "karpenter.k8s.aws"
CATALOGUE = {kind.name: kind for kind in load_catalogue()}
MakePool = Callable[..., Awaitable[Pool]]


@pytest.fixture
async def make_pool(lab: Lab, api: KubeApi) -> AsyncIterator[MakePool]:
    """Make NodePools that go away with the test, with every fault that it switched on."""
    made: list[Pool] = []

    async def make(*instance_types: str, capacity: tuple[str, ...] = ("on-demand",), boot: str = "1s") -> Pool:
        pool = Pool(api, f"k{time.time_ns() // 1_000_000 % 10**9}")
        made.append(pool)
        await pool.create(instance_types, capacity, boot)
        return pool

    yield make
    lab.faults.clear()
    for pool in made:
        await pool.remove()


async def test_a_gpu_pod_gets_a_node_like_awss(make_pool: MakePool) -> None:
    pool = await make_pool("g5.xlarge", boot="2s")
    started = time.monotonic()
    pod = await pool.pod({f"{AWS}/instance-gpu-name": "a10g", f"{AWS}/instance-gpu-count": "1"})
    stages = {}
    for stage in ("Launched", "Registered", "Initialized"):
        claim = await pool.condition(stage)
        stages[stage] = time.monotonic() - started
    node = await pool.running(pod)
    stages["Running"] = time.monotonic() - started
    print("1-GPU pod:", ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in stages.items()))

    labels = node["metadata"]["labels"]
    assert labels[INSTANCE_TYPE] == "g5.xlarge"
    assert labels[CAPACITY_TYPE] == "on-demand"
    assert labels[f"{AWS}/instance-gpu-memory"] == "22888"
    assert labels[f"{AWS}/instance-memory"] == "16384"
    assert re.fullmatch(r"use1-az[123]", labels["topology.k8s.aws/zone-id"])
    # Whoever takes one name for the other must fail here, as on AWS.
    assert node["metadata"]["name"] != claim["metadata"]["name"]
    assert node["spec"]["providerID"] == claim["status"]["providerID"]
    kind = CATALOGUE["g5.xlarge"]
    for estimate in (claim["status"]["allocatable"], node["status"]["allocatable"]):
        assert parse_cpu(estimate["cpu"]) == kind.allocatable.cpu_m
        assert parse_bytes(estimate["memory"]) == kind.allocatable.memory
    assert parse_bytes(node["status"]["capacity"]["memory"]) > kind.allocatable.memory


async def test_it_buys_the_cheapest_type_that_fits(make_pool: MakePool) -> None:
    pool = await make_pool("g5.12xlarge", "g5.2xlarge", "g5.xlarge")
    node = await pool.running(await pool.pod())
    assert node["metadata"]["labels"][INSTANCE_TYPE] == "g5.xlarge"


@pytest.mark.parametrize(
    ("pinned", "bought"), [(False, {"g5.12xlarge": 1}), (True, {"g5.xlarge": 2})], ids=["plain", "pinned"]
)
async def test_two_sessions_at_once_buy_small_hosts_only_if_pinned(
    make_pool: MakePool, pinned: bool, bought: dict[str, int]
) -> None:
    """Karpenter adds pods to a claim while any type fits; it never compares one large machine with two small ones."""
    pool = await make_pool("g5.xlarge", "g5.12xlarge")
    selector = {f"{AWS}/instance-gpu-name": "a10g"} | ({f"{AWS}/instance-gpu-count": "1"} if pinned else {})
    pods = await asyncio.gather(pool.pod(selector), pool.pod(selector))
    await asyncio.gather(*(pool.running(pod) for pod in pods))
    types = Counter(claim["metadata"]["labels"][INSTANCE_TYPE] for claim in await pool.claims())
    assert types == bought
    price = sum(count * (CATALOGUE[name].usd_per_hour or 0) for name, count in bought.items())
    print(f"two 1-GPU sessions at once, {'host pinned' if pinned else 'plain'}: {bought}, ${price:.2f} an hour")


async def test_without_spot_capacity_the_session_falls_back_to_on_demand(lab: Lab, make_pool: MakePool) -> None:
    lab.faults.ice(capacity_type="spot")
    pool = await make_pool("g5.xlarge", "g6.xlarge", capacity=("spot", "on-demand"))
    started = time.monotonic()
    pod = await pool.pod()
    told = await pool.refusal()
    refused = time.monotonic() - started
    assert "There is no Spot capacity available" in told
    metrics = await offering_metrics(lab)
    assert metrics["available", "g6.xlarge", "spot", "us-east-1a"] == 0
    assert metrics["available", "g6.xlarge", "on-demand", "us-east-1a"] == 1
    node = await pool.running(pod)
    print(f"spot refused after {refused:.1f} s, running on-demand after {time.monotonic() - started:.1f} s")
    assert node["metadata"]["labels"][CAPACITY_TYPE] == "on-demand"


async def test_spot_is_bought_first_where_there_is_any(make_pool: MakePool) -> None:
    pool = await make_pool("g6e.xlarge", capacity=("spot", "on-demand"))
    node = await pool.running(await pool.pod())
    assert node["metadata"]["labels"][CAPACITY_TYPE] == "spot"


async def test_without_any_capacity_the_cloud_says_so_until_it_returns(lab: Lab, make_pool: MakePool) -> None:
    lab.faults.ice(instance_type="g4dn.*")
    pool = await make_pool("g4dn.xlarge")
    pod = await pool.pod()
    told = await pool.refusal()
    assert "InsufficientInstanceCapacity: We currently do not have sufficient g4dn.xlarge capacity" in told
    assert not await pool.nodes()
    lab.faults.clear()
    node = await pool.running(pod, within=lab.settings.ice_memory_s + 25)
    assert node["metadata"]["labels"][INSTANCE_TYPE] == "g4dn.xlarge"


@pytest.mark.parametrize(
    ("capacity_type", "code"), [("on-demand", "VcpuLimitExceeded"), ("spot", "MaxSpotInstanceCountExceeded")]
)
async def test_the_account_s_limit_is_named(lab: Lab, make_pool: MakePool, capacity_type: str, code: str) -> None:
    lab.faults.quota(instance_type="g6.2xlarge")
    pool = await make_pool("g6.2xlarge", capacity=(capacity_type,))
    await pool.pod()
    assert f"{code}: " in await pool.refusal()


async def test_a_machine_that_never_registers_stays_a_claim_without_a_node(lab: Lab, make_pool: MakePool) -> None:
    lab.faults.never_register("g5.2xlarge")
    pool = await make_pool("g5.2xlarge")
    await pool.pod()
    claim = await pool.condition("Registered", "NodeNotFound")
    await asyncio.sleep(3)  # three boots long
    assert not await pool.nodes()
    assert [c["metadata"]["uid"] for c in await pool.claims()] == [claim["metadata"]["uid"]]


async def test_a_claim_that_goes_away_while_booting_leaves_no_node(api: KubeApi, make_pool: MakePool) -> None:
    pool = await make_pool("g6.xlarge", boot="3s")
    pod = await pool.pod()
    claim = await pool.condition("Launched")
    await api.delete(core("pods", namespace="default", name=pod))
    await api.delete(group(KARPENTER, "nodeclaims", name=claim["metadata"]["name"]))

    async def gone() -> bool:
        return not await pool.claims()

    await eventually(gone, 10, "the claim is gone")
    await asyncio.sleep(3.5)
    assert not await pool.nodes()


async def test_a_silent_device_plugin_is_seen_and_survived(lab: Lab, api: KubeApi, make_pool: MakePool) -> None:
    lab.faults.gpu_never_advertised("g6.4xlarge")
    pool = await make_pool("g6.4xlarge")
    pod = await pool.pod()
    await pool.condition("Initialized", "ResourceNotRegistered")
    (node,) = await pool.nodes()
    assert GPU not in node["status"]["allocatable"]
    await advertise_gpus(api, node, 1)
    await pool.condition("Initialized")
    await pool.running(pod)


async def test_prices_and_availability_are_published_as_by_awss_provider(lab: Lab) -> None:
    metrics = await offering_metrics(lab)
    price = CATALOGUE["p5.48xlarge"].usd_per_hour
    assert price is not None
    assert metrics["price_estimate", "p5.48xlarge", "on-demand", "us-east-1b"] == price
    assert metrics["price_estimate", "p5.48xlarge", "spot", "us-east-1b"] == pytest.approx(
        price * lab.settings.spot_ratio
    )
    # The catalogue has no price for it, so nobody can buy it.
    assert metrics["available", "p5e.48xlarge", "on-demand", "us-east-1a"] == 0


async def test_a_real_node_may_differ_from_the_estimate() -> None:
    async with running_lab(LabSettings.fast(allocatable_skew=-0.02)) as other, other.api() as api:
        pool = Pool(api, "skewed")
        await pool.create(["g5.xlarge"], ["on-demand"], "1s")
        node = await pool.running(await pool.pod())
        (claim,) = await pool.claims()
        estimate, observed = claim["status"]["allocatable"], node["status"]["allocatable"]
        assert parse_cpu(estimate["cpu"]) == CATALOGUE["g5.xlarge"].allocatable.cpu_m
        assert parse_cpu(observed["cpu"]) == int(parse_cpu(estimate["cpu"]) * 0.98)
        assert parse_bytes(observed["memory"]) == pytest.approx(parse_bytes(estimate["memory"]) * 0.98, abs=1024)
        # Only what a kubelet measures differs: the disk is as ordered.
        assert observed["ephemeral-storage"] == estimate["ephemeral-storage"]


async def offering_metrics(lab: Lab) -> dict[tuple[str, str, str, str], float]:
    """Return the provider's gauges by (which, instance type, capacity type, zone)."""
    async with aiohttp.ClientSession() as session, session.get(lab.url("karpenter_metrics")) as answer:
        text = await answer.text()
    sample = re.compile(r"karpenter_cloudprovider_instance_type_offering_(\w+)\{([^}]*)\} (\S+)")
    result = {}
    for which, inside, value in sample.findall(text):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', inside))
        result[which, labels["instance_type"], labels["capacity_type"], labels["zone"]] = float(value)
    return result


async def advertise_gpus(api: KubeApi, node: Raw, count: int) -> None:
    """Do what a device plugin does."""
    amount = {GPU: str(count)}
    path = core("nodes", name=node["metadata"]["name"], sub="status")
    await api.patch(path, {"status": {"capacity": amount, "allocatable": amount}}, kind="strategic")
