"""Starts that are interrupted: by a hub that dies, by Stop, by other tabs, by hooks and by what deletes pods."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping

import pytest
import pytest_asyncio

from browsers import logged_in
from fault_site import Site, fault_site
from gpu_launcher.cluster.api import KubeApi
from gpu_launcher.cluster.paths import core, group
from gpu_launcher.lab.handle import Lab
from launcher import StartStream
from life_site import (
    CONFIG,
    LONG_S,
    POOLS,
    PROFILES,
    STAGES,
    STARTS,
    Server,
    all_in_their_stages,
    answers,
    hub_restarts,
    page,
    pods_lost,
    servers,
    stages,
    tokens,
    uids,
)  # fmt: skip
from provisioning import KWOK, eventually
from starts import CANARY

pytestmark = [pytest.mark.lab, pytest.mark.hub]

BACK_S = 15.0
"""In which a restarted hub must have told what became of a start."""


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def site(lab: Lab, api: KubeApi, product: None) -> AsyncIterator[Site]:
    """A hub with a profile for each stage, and users whose names say what is odd about them."""
    lab.faults.ice("g6e.2xlarge")
    lab.faults.never_register("g6e.16xlarge")
    for image in ("big", "huge"):
        lab.faults.slow_pull(f"example.org/{image}:*", LONG_S)
    async with fault_site(lab, api, "life", POOLS, PROFILES, STARTS, config=CONFIG) as ready:
        slow = group(KWOK, "kwoknodeclasses", name=ready.pools["slowly"].name)
        await api.patch(slow, {"spec": {"nodeRegistrationDelay": f"{LONG_S - 8}s"}})
        yield ready


# A hub that dies.

ADOPTED = {"ice-1": "ice", "lost-1": "lost", "slowly-1": "slowly", "big-1": "big", "mute-1": "plain"}
STOPPED = {"ice-2": "ice", "slowly-2": "slowly", "big-2": "big", "mute-2": "plain"}
FAILING = {"big-3": "big", "big-4": "big"}


async def test_h1_a_killed_hub_goes_on_with_its_starts_or_says_that_it_cannot(site: Site) -> None:
    launcher = site.launcher
    await (await launcher.start("steady", "cpu")).ready(60)
    for user in ("hooked-1", "orphan-1"):
        await launcher.start(user, "plain")
    before = await all_in_their_stages(site, {**ADOPTED, **STOPPED, **FAILING})
    began = {user: stream.told[-1].timeline["began_at"] for user, stream in before.items()}
    named = await launcher.start("mute-1", "plain", "train")
    await named.stage(STAGES["plain"], 40)
    # The story is kept now and then, as a write of the database costs everybody a little.
    await asyncio.sleep(6)
    seen = {user: stages(stream.told[-1]) for user, stream in before.items()}
    assert await hub_restarts(site) == 0

    killed = asyncio.create_task(launcher.hub.kill9())
    await asyncio.sleep(0.5)
    await delete_pod(site, before["big-3"])
    assert await answers(site, "steady"), "another user's server without a hub"
    await killed

    await said_to_have_ended(site, ("hooked-1", "orphan-1", "big-3"))
    # A create that was in flight may arrive after all.
    late = json.loads((site.lab.directory / "hubs" / site.namespace / "orphan-1.json").read_text())
    await site.api.post(core("pods", namespace=site.namespace), late)
    await site.no_pod_left(Server("orphan-1"))
    adopted = await gone_on_with(site, began, seen, (*ADOPTED, *STOPPED, "big-4"))
    assert (await servers(site, "steady"))[""]["ready"]
    # Stop, and a failure, of what is adopted.
    await launcher.stop("mute-1", "train")
    await site.no_pod_left(named)
    assert (await servers(site, "mute-1"))[""]["pending"] == "spawn", "the other server of the same user goes on"
    await asyncio.gather(*(launcher.stop(user) for user in STOPPED))
    await delete_pod(site, adopted["big-4"])
    assert (await adopted["big-4"].refused(20)).reason == "pod_deleted"
    for user in (*STOPPED, "big-4"):
        await site.no_pod_left(adopted[user])
        assert not await servers(site, user)
    assert await hub_restarts(site) == 1, "the one kill, and nothing of the above"

    # A hub that ends in good order leaves its starts to the next one as well.
    await launcher.hub.restart()
    again = await gone_on_with(site, began, seen, ADOPTED)
    ends = {user: await stream.ended(LONG_S + 30) for user, stream in again.items()}
    for user in ("slowly-1", "big-1", "mute-1"):
        assert ends[user].event.get("ready"), again[user].transcript()
        assert (await servers(site, user))[""]["ready"]
        assert await answers(site, user)
    for user, reason in (("ice-1", "capacity"), ("lost-1", "node_not_registering")):
        assert (await again[user].refused(1)).reason == reason
        assert ends[user].at - began[user] < LONG_S + 15, "the clock began at the click, not at the restart"
        await site.no_pod_left(again[user])
    assert await hub_restarts(site) == 0, "the new pod's hub lives"
    assert (await servers(site, "steady"))[""]["ready"]
    assert await answers(site, "steady")
    await asyncio.gather(*(launcher.stop(user) for user in ("steady", "slowly-1", "big-1", "mute-1")))


async def said_to_have_ended(site: Site, users: Iterable[str]) -> None:
    """Fail unless these starts ended with the hub, and their users are told so."""
    for user in users:
        refused = await site.launcher.follow(user).refused(BACK_S)
        assert refused.reason == "hub_restarted"
        assert "hub restarted" in refused.message
        assert "start it again" in refused.message
        assert refused.message in await page(site, user)
        assert not await servers(site, user)
        await site.no_pod_left(Server(user))


async def gone_on_with(
    site: Site, began: Mapping[str, float], seen: Mapping[str, list[str]], users: Iterable[str]
) -> dict[str, StartStream]:
    """Return the streams of starts with which a new hub has gone on: the same clock, the whole story."""
    streams = {user: site.launcher.follow(user) for user in users}
    for user, stream in streams.items():
        first = await stream.until(lambda told: bool(told.timeline), BACK_S, "a story")
        assert first.timeline["began_at"] == began[user]
        assert first.timeline["elapsed_s"] == pytest.approx(first.timeline["now"] - began[user], abs=0.1)
        assert stages(first)[: len(seen[user])] == seen[user], stream.transcript()
        assert (await servers(site, user))[""]["pending"] == "spawn"
    return streams


async def delete_pod(site: Site, stream: StartStream) -> None:
    """Delete a start's pod behind the hub's back."""
    [pod] = await site.pods_of(stream)
    await site.api.delete(core("pods", namespace=site.namespace, name=pod["metadata"]["name"]))


# Stop.

STOPS = {
    "hooked-3": "plain",
    "late-3": "plain",
    "dull-3": "plain",
    "ice-3": "ice",
    "lost-3": "lost",
    "huge-3": "huge",
    "mute-3": "plain",
}


async def test_h5_stop_at_any_stage_leaves_nothing(site: Site) -> None:
    launcher = site.launcher
    stuck = [user for user in STOPS if user.startswith(("hooked", "late", "dull"))]
    streams = await all_in_their_stages(site, {user: STOPS[user] for user in STOPS if user not in stuck})
    streams |= {user: await launcher.start(user, STOPS[user]) for user in stuck}
    await site.pod_seen(streams["dull-3"])
    assert not await site.pods_of(streams["late-3"])

    async def stop(user: str) -> None:
        assert (await launcher.call(f"users/{user}/server", "DELETE"))[0] in (202, 204)
        await launcher.stop(user)

    await asyncio.gather(*map(stop, STOPS))
    for user in STOPS:
        end = await streams[user].ended(5)
        assert end.event["failed"]
        assert "cancelled" in end.text or "stopped" in end.text.lower(), end.text
    # The pod that was on its way came, and went.
    await site.pod_seen(streams["late-3"], 10)
    for stream in streams.values():
        await site.no_pod_left(stream, 10)
    assert not uids(site, streams["hooked-3"])
    # And nothing comes back: not the pod, not the server.
    await asyncio.sleep(3)
    for user, stream in streams.items():
        assert not await site.pods_of(stream)
        assert not await servers(site, user)
    assert "consecutive spawns failed" not in launcher.hub.log.read_text()


async def test_o9_two_tabs_and_a_double_submit_are_one_pod(site: Site) -> None:
    hub, user = site.launcher.hub, "late-tabs"
    await site.launcher.users(user)
    async with logged_in(hub.url, user, hub.password) as one, logged_in(hub.url, user, hub.password) as two:
        fields = {"profile": "cpu"}
        answers = await asyncio.gather(
            one.post("/hub/spawn", fields), one.post("/hub/spawn", fields), two.post("/hub/spawn", fields)
        )
    assert 302 in [status for status, _ in answers]
    stream = site.launcher.follow(user)
    await stream.ready(60)
    stream.asked_at -= 60
    assert len(uids(site, stream)) == 1
    assert (await servers(site, user))[""]["ready"]
    await site.launcher.stop(user)
    await site.no_pod_left(stream)


@pytest.mark.parametrize("how", ["late", "dull", "swift"])
async def test_o9_stop_and_start_in_turns_leave_one_pod(site: Site, how: str) -> None:
    launcher, user = site.launcher, f"{how}-turns"
    for pause in (0.0, 0.3, 1.5):
        await launcher.start(user, "cpu")
        await asyncio.sleep(pause)
        # The second of two tabs presses it as well.
        await asyncio.gather(*(launcher.call(f"users/{user}/server", "DELETE") for _ in range(2)))
        await launcher.stop(user)
    stream = await launcher.start(user, "cpu")
    await stream.ready(60)
    # The creates of the stopped ones have all arrived by now.
    await asyncio.sleep(4 if how != "swift" else 0)

    async def one() -> bool:
        return len(await site.pods_of(stream)) == 1

    await eventually(one, 10, f"{user} has one pod")
    assert (await servers(site, user))[""]["ready"]
    assert await answers(site, user)
    await launcher.stop(user)
    await site.no_pod_left(stream)


# Hooks, and pods that go.


async def test_h3_a_hook_that_raises_after_the_pod_was_made_leaves_none(site: Site) -> None:
    stream = await site.launcher.start("after-1", "plain")
    end = await stream.ended(40)
    assert end.event["failed"]
    assert len(uids(site, stream)) == 1
    await site.no_pod_left(stream)
    assert not any(told.says("deleted|gone") for told in stream.told), stream.transcript()
    log = site.launcher.hub.log.read_text()
    assert re.search(r"a hook of the site is broken", log)
    text = await page(site, "after-1")
    assert "Your files are safe" in text
    assert "RuntimeError" not in text


async def test_h8_an_evicted_pod_is_seen_counted_and_the_next_start_is_clean(site: Site) -> None:
    launcher, user = site.launcher, "evicted-1"
    first = await launcher.start(user, "plain")
    await first.ready(60)
    lost = await pods_lost(site)
    site.lab.faults.pod("evict", pod=f"jupyter-{user}*")

    async def noticed() -> bool:
        return not await servers(site, user)

    await eventually(noticed, 20, "the hub knows that the server is gone")
    site.lab.faults.clear()
    assert await pods_lost(site) == lost + 1
    second = await launcher.start(user, "plain")
    await second.ready(90)
    [pod] = await site.pods_of(second)
    assert pod["metadata"]["uid"] not in uids(site, first) - uids(site, second)
    await launcher.stop(user)
    await site.no_pod_left(second)
    assert await pods_lost(site) == lost + 1, "a server that is stopped is not lost"


# What may not be done, or said.


async def test_w3_starts_and_stops_need_the_token_and_looking_changes_nothing(site: Site) -> None:
    hub, user = site.launcher.hub, "forged"
    server = f"{hub.url}/hub/api/users/{user}/server"
    cors = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"}
    async with logged_in(hub.url, user, hub.password) as browser:

        async def status(method: str, url: str, token: str = "", **headers: str) -> int:
            query = {"_xsrf": token} if token else {}
            async with browser.session.request(
                method, url, params=query, headers=cors | headers, data=b"{}" if method == "POST" else None
            ) as answer:
                return answer.status

        for method in ("POST", "DELETE"):
            assert await status(method, server) == 403
            assert await status(method, server, "forged") == 403
        # Looking, as a page of another site could make a browser do it.
        for path in (f"/hub/spawn/{user}", f"/hub/spawn-pending/{user}", "/hub/home"):
            assert (await browser.get(path))[0] in (200, 302)
        for method in ("GET", "HEAD", "OPTIONS"):
            await status(method, server)
            await status(method, f"{server}/progress")
        assert not await servers(site, user)
        assert not await site.pods_of(Server(user))
        # The same with the page's own token works, and looking at it goes on changing nothing.
        assert await status("POST", server, browser._xsrf, **{"Content-Type": "application/json"}) in (201, 202)
        await site.launcher.follow(user).ready(60)
        assert await status("DELETE", server) == 403
        for method in ("GET", "HEAD"):
            await status(method, server)
        assert (await servers(site, user))[""]["ready"]
        assert await status("DELETE", server, browser._xsrf) in (202, 204)
    await site.launcher.stop(user)


async def test_w7_no_output_of_the_hub_holds_a_secret(site: Site) -> None:
    logs = "".join(path.read_text() for path in site.lab.paths.pods.glob(f"{site.namespace}_*/hub.log"))
    # Every kind of end is in there by now.
    for told in ("reason=hub_restarted", "start adopted", "a hook of the site is broken", "start admitted"):
        assert told in logs, told
    outputs = {"log": logs, "metrics": (await site.launcher.call("../metrics"))[1]}
    outputs["progress"] = "".join(json.dumps(told.event) for stream in site.launcher.streams for told in stream.told)
    events = await site.api.get(core("events", namespace=site.namespace))
    outputs["events"] = json.dumps(events["items"])
    secrets = {CANARY, *(value for one in site.sightings.seen if one.what == "pods" for value in tokens(one.raw))}
    assert len(secrets) > len(ADOPTED)
    for name, output in outputs.items():
        for secret in secrets:
            assert secret not in output, f"a secret in {name}"
