"""A hub on which starts stay in each of their stages for long, and users whose names say what is odd about them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from browsers import logged_in
from fault_site import ON_DEMAND, Site, about
from gpu_launcher.cluster.api import Raw
from gpu_launcher.cluster.paths import core
from launcher import StartStream, Told

# Long enough to kill a hub and have it back, twice, in the midst of it.
LONG_S = 80

POOLS = {
    "ice": (["g6e.2xlarge"], ON_DEMAND),
    "lost": (["g6e.16xlarge"], ON_DEMAND),
    "slowly": (["g4dn.2xlarge"], ON_DEMAND),
    "plain": (["g4dn.xlarge"], ON_DEMAND),
}
PROFILES = {
    "ice": {"pool": "ice", "gpu": "l40s"},
    "lost": {"pool": "lost", "gpu": "l40s"},
    "slowly": {"pool": "slowly"},
    "plain": {"pool": "plain"},
    "big": {"pool": "plain"},
    "huge": {"pool": "plain"},
}
STARTS = {"no_capacity": f"{LONG_S}s", "not_registering": f"{LONG_S}s"}

CONFIG = f"""
import asyncio
import json
import os
from pathlib import Path

from kubernetes_asyncio.client import ApiClient, CoreV1Api

c.Spawner.poll_interval = 2
_the_sites = c.Spawner.pre_spawn_hook
_create = CoreV1Api.create_namespaced_pod


async def _before(spawner):
    _the_sites(spawner)
    name = spawner.user.name
    if name.startswith("hooked-"):
        await asyncio.sleep(60)
    if name.startswith("mute-"):
        answers = {{"gpu-launcher-lab/answers-after": "{LONG_S}"}}
        spawner.extra_annotations = {{**spawner.extra_annotations, **answers}}
    if name.startswith("after-"):
        spawner.after_pod_created_hook = _fails


def _fails(spawner, pod):
    raise RuntimeError("a hook of the site is broken")


async def _slowly(self, namespace, body, **more):
    name = body.metadata.annotations["hub.jupyter.org/username"]
    if name.startswith("late-"):
        await asyncio.sleep(4)
    if name.startswith("orphan-"):
        Path(f"{{name}}.json").write_text(json.dumps(self.api_client.sanitize_for_serialization(body)))
        await asyncio.sleep(60)
    pod = await _create(self, namespace, body, **more)
    if name.startswith("dull-"):
        await asyncio.sleep(4)
    return pod


c.Spawner.pre_spawn_hook = _before
CoreV1Api.create_namespaced_pod = _slowly
"""

STAGES = {
    "ice": "finding_capacity",
    "lost": "booting",
    "slowly": "booting",
    "big": "pulling_image",
    "huge": "pulling_image",
    "plain": "server_answering",
}
"""In which each profile's starts stay for long; with plain, those of users whose servers are mute."""


async def in_its_stage(site: Site, user: str, profile: str) -> StartStream:
    """Start a server and return its stream once the start is where its profile keeps it."""
    stream = await site.launcher.start(user, profile)
    await stream.stage(STAGES[profile], 40)
    return stream


async def all_in_their_stages(site: Site, users: Mapping[str, str]) -> dict[str, StartStream]:
    """Start a server for each user, of the profile that is given for them."""
    streams = await asyncio.gather(*(in_its_stage(site, user, profile) for user, profile in users.items()))
    return dict(zip(users, streams, strict=True))


def stages(told: Told) -> list[str]:
    """The stages through which a start has come, the one that it is in last."""
    return [line["stage"] for line in told.timeline["lines"] if line["state"] in ("done", "now")]


async def servers(site: Site, user: str) -> Mapping[str, Any]:
    """What the hub says of a user's servers."""
    found: Mapping[str, Any] = (await site.launcher.call(f"users/{user}"))[1]["servers"]
    return found


async def hub_restarts(site: Site) -> int:
    """How often a container of the hub was started again."""
    pods = await site.api.get(core("pods", namespace=site.namespace), labelSelector="component=hub")
    return sum(one["restartCount"] for pod in pods["items"] for one in pod["status"].get("containerStatuses", ()))


def uids(site: Site, stream: StartStream) -> set[str]:
    """All pods that a start's server ever had since it was asked for."""
    mine = about(stream)
    return {one.raw["metadata"]["uid"] for one in site.sightings.seen if one.what == "pods" and mine(one)}


@dataclass(frozen=True)
class Server:
    """Whose pods are looked for, where nobody follows a start."""

    user: str
    server: str = ""
    asked_at: float = 0.0


async def pods_lost(site: Site) -> float:
    """What the hub's metrics say of lost pods."""
    text = (await site.launcher.call("../metrics"))[1]
    return sum(
        float(count) for count in re.findall(r'^gpu_launcher_pods_lost_total\{profile="\w+"\} (\S+)', text, re.M)
    )


def tokens(pod: Raw) -> set[str]:
    """The tokens in a session pod's environment."""
    env = [entry for container in pod["spec"]["containers"] for entry in container.get("env", ())]
    return {entry["value"] for entry in env if "TOKEN" in entry["name"] and len(entry.get("value", "")) >= 16}


async def answers(site: Site, user: str) -> bool:
    """Whether a user's server answers through the proxy."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{site.launcher.hub.url}/user/{user}/api", allow_redirects=False) as answer,
    ):
        return answer.status == 200


async def page(site: Site, user: str) -> str:
    """The page on which the user waits, or reads why not."""
    hub = site.launcher.hub
    async with logged_in(hub.url, user, hub.password) as browser:
        return (await browser.get(f"/hub/spawn-pending/{user}"))[1]
