"""The lab's reverse proxy: routes as the hub sets them, answers as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from gpu_launcher.lab.proxy import Proxy, Route, Routes

TOKEN = {"Authorization": "token t"}


@pytest.mark.parametrize(
    ("path", "wanted"),
    [("/", "/"), ("/hub/x", "/"), ("/user/ann", "/user/ann"), ("/user/ann/lab", "/user/ann"), ("/user/anna", "/")],
)
def test_the_longest_path_wins_by_whole_segments(path: str, wanted: str) -> None:
    routes = Routes()
    for name in ("/", "/user/ann"):
        routes.by_path[name] = Route(name)
    found = routes.match(path)
    assert found is not None
    assert found.target == wanted


def test_nobody_serves_an_empty_table() -> None:
    assert Routes().match("/x") is None


@asynccontextmanager
async def served(handler: object, path: str = "/{path:.*}") -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", path, handler)
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_the_hub_sets_and_removes_routes() -> None:
    async with aiohttp.ClientSession() as session:
        proxy = Proxy(session, token="t")
        async with served(proxy.api, "/api/routes/{path:.*}") as url:
            where = f"{url}/api/routes/user/a%40b"
            assert (await session.get(where)).status == 403
            body = {"target": "http://127.0.0.1:1/", "user": "a@b"}
            assert (await session.post(where, json=body, headers=TOKEN)).status == 201
            found = await (await session.get(f"{url}/api/routes/", headers=TOKEN)).json()
            assert found["/user/a@b"]["user"] == "a@b"
            assert found["/user/a@b"]["target"] == "http://127.0.0.1:1"
            assert found["/user/a@b"]["last_activity"].endswith("Z")
            assert (await session.delete(where, headers=TOKEN)).status == 204
            assert (await session.get(where, headers=TOKEN)).status == 404


async def test_an_answer_is_passed_on_while_it_is_made() -> None:
    more = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        response.headers.add("Set-Cookie", "a=1")
        response.headers.add("Set-Cookie", "b=2")
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await more.wait()
        await response.write(b"data: 2\n\n")
        return response

    async with served(slow) as target, aiohttp.ClientSession() as session:
        proxy = Proxy(session, token="t")
        proxy.routes.by_path["/"] = Route(target)
        async with served(proxy.forward) as url, session.get(f"{url}/x") as answer:
            assert answer.headers.getall("Set-Cookie") == ["a=1", "b=2"]
            assert await answer.content.readline() == b"data: 1\n"
            more.set()
            assert (await answer.content.read()).endswith(b"data: 2\n\n")


async def test_requests_arrive_as_they_were_sent() -> None:
    async def echo(request: web.Request) -> web.Response:
        seen = {"path": request.raw_path, "host": request.host, "body": (await request.read()).decode()}
        return web.json_response(seen | {"for": request.headers["X-Forwarded-For"]}, status=418)

    async with served(echo) as target, aiohttp.ClientSession() as session:
        proxy = Proxy(session, token="t")
        proxy.routes.by_path["/"] = Route(target)
        async with (
            served(proxy.forward) as url,
            session.put(
                URL(f"{url}/a%20b?c=%2F", encoded=True), data="hello", headers={"Host": "hub.example"}
            ) as answer,
        ):
            assert answer.status == 418
            found = await answer.json()
    assert found == {"path": "/a%20b?c=%2F", "host": "hub.example", "body": "hello", "for": "127.0.0.1"}


async def test_websockets_keep_their_subprotocol() -> None:
    async def kernel(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("v1.kernel",))
        await socket.prepare(request)
        async for message in socket:
            await socket.send_bytes(message.data.encode())
            break
        return socket

    async with served(kernel) as target, aiohttp.ClientSession() as session:
        proxy = Proxy(session, token="t")
        proxy.routes.by_path["/"] = Route(target)
        async with served(proxy.forward) as url, session.ws_connect(url, protocols=("v0", "v1.kernel")) as socket:
            assert socket.protocol == "v1.kernel"
            await socket.send_str("6*7")
            assert await socket.receive_bytes() == b"6*7"
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


async def test_a_dead_server_is_503_and_a_refused_websocket_keeps_its_status() -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=403)

    async with served(refuse) as target, aiohttp.ClientSession() as session:
        proxy = Proxy(session, token="t")
        proxy.routes.by_path["/dead"] = Route("http://127.0.0.1:1")
        proxy.routes.by_path["/no"] = Route(target)
        async with served(proxy.forward) as url:
            assert (await session.get(f"{url}/dead")).status == 503
            assert (await session.get(f"{url}/nobody")).status == 404
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{url}/no")
            assert refused.value.status == 403
