"""The figures in the documentation, measured on this machine: ./dev bench [NAME ...]."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import comparison
from crowd import crowd

from churn import churn
from gpu_launcher.lab.demo import demo
from gpu_launcher.lab.handle import Lab, running_lab
from gpu_launcher.lab.hub import Hub, start_hub
from gpu_launcher.lab.install import install_product
from gpu_launcher.lab.settings import LabSettings
from starts import DOCUMENT, PLAIN_CONFIG, launcher_config, spot_without_capacity, two_at_once, usd_per_hour

STEPS = 120


async def measure_demo() -> None:
    """How long until the login page, with the servers built."""
    control_plane, login = [], []
    for _ in range(3):
        started = time.monotonic()
        async with demo(LabSettings(), name="bench-demo") as (lab, _hub):
            login.append(time.monotonic() - started)
            control_plane.append(float(lab.state["seconds"]))
    print(f"control plane ready   median {statistics.median(control_plane):5.1f} s of {_list(control_plane)}")
    print(f"login page            median {statistics.median(login):5.1f} s of {_list(login)}")


async def measure_first() -> None:
    """A cold and a warm start of an A10G with the lab's lifelike delays (boot 45 s, 8 GB image at 200 MB/s)."""
    async with running_lab(LabSettings(images={"example.org/pytorch:2.9": 8_000_000_000})) as lab:
        hub = await _launcher_hub(lab)
        for kind in ("cold", "warm"):
            started = time.monotonic()
            await hub.start_server("ada", options={"profile": "a10g"})
            print(f"A10G {kind} start       {time.monotonic() - started:5.1f} s to the answering notebook")
            await hub.stop_server("ada")


async def measure_price() -> None:
    """What two users at the same moment make Karpenter buy: with the launcher, and with plain KubeSpawner."""
    async with running_lab() as lab, lab.api() as api:
        hub = await _launcher_hub(lab)
        ours = await two_at_once(api, hub, {"profile": "a10g"})
        plain = await two_at_once(api, await start_hub(lab, "plain", PLAIN_CONFIG), None)
    print(f"two users, launcher    {dict(ours)}  ${usd_per_hour(ours):.2f} an hour")
    print(f"two users, KubeSpawner {dict(plain)}  ${usd_per_hour(plain):.2f} an hour")


async def measure_fallback() -> None:
    """How long a spot-first start takes where spot has none, with a machine that boots in 2 s."""
    async with running_lab() as lab, lab.api() as api:
        hub = await _launcher_hub(lab)
        ends = [await spot_without_capacity(lab, api, hub) for _ in range(3)]
    print(f"spot has none          ready on {ends[0].capacity_type} after {_list([end.seconds for end in ends])} s")


async def measure_packing() -> None:
    """Host-hours of random churn on 8-GPU hosts, with and without packing, beside the least possible."""
    async with running_lab() as lab, lab.api() as api:
        for seed in (1, 2, 3):
            packed = await churn(api, f"packed-{seed}", packed=True, seed=seed, steps=STEPS)
            spread = await churn(api, f"spread-{seed}", packed=False, seed=seed, steps=STEPS)
            print(
                f"host-hours, seed {seed}     packed {packed.host_hours}, without packing {spread.host_hours}, "
                f"ceil(n/8) {packed.ideal_host_hours}; arrivals beside the fullest host: "
                f"packed {len(packed.strays)}, without {len(spread.strays)}"
            )


async def measure_starts() -> None:
    """Plain KubeSpawner and the launcher in turns on one lab: warm starts, and the lag to "ready"."""
    async with running_lab(name="bench") as lab, lab.api() as api:
        await install_product(lab)
        plain = await start_hub(lab, "plain", comparison.PLAIN)
        ours = await start_hub(lab, "jupyter", launcher_config(comparison.DOCUMENT) + comparison.SITE)
        async with crowd(api, "plain", plain) as first, crowd(api, "launcher", ours, {"profile": "cpu"}) as second:
            await comparison.compare((first, second))


async def _launcher_hub(lab: Lab) -> Hub:
    await install_product(lab)
    return await start_hub(lab, "jupyter", launcher_config(DOCUMENT))


def _list(seconds: list[float]) -> str:
    return " ".join(f"{value:.1f}" for value in seconds)


MEASUREMENTS: dict[str, Callable[[], Awaitable[None]]] = {
    "demo": measure_demo,
    "first": measure_first,
    "price": measure_price,
    "fallback": measure_fallback,
    "packing": measure_packing,
    "starts": measure_starts,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("what", nargs="*", choices=[*MEASUREMENTS, []], help="which figures (default: all)")
    for name in parser.parse_args().what or MEASUREMENTS:
        print(f"\n{name}: {MEASUREMENTS[name].__doc__}", flush=True)
        asyncio.run(_run(MEASUREMENTS[name]))


async def _run(measurement: Callable[[], Awaitable[None]]) -> None:
    await measurement()


main()
