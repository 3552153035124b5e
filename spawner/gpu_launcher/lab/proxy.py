"""The lab's public door: a reverse proxy with the REST API of configurable-http-proxy, so that no Node.js is needed.

It streams, as the original does and its Python port does not: the hub's pending page is one long response.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

log = logging.getLogger(__name__)

# Headers that belong to one connection, not to the message; the handshake's are made anew on the other side.
_HOP = frozenset(("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"))
_HOP |= {"transfer-encoding", "upgrade"}
_HANDSHAKE = frozenset(("sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"))
_CONNECT_S = 30.0


@dataclass(slots=True)
class Route:
    """Where requests below a path go; `data` is the hub's own and is given back as it came."""

    target: str
    data: dict[str, Any] = field(default_factory=dict)
    last_activity: datetime = field(default_factory=lambda: datetime.now(UTC))

    def touch(self) -> None:
        self.last_activity = datetime.now(UTC)

    def document(self) -> dict[str, Any]:
        stamp = self.last_activity.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {**self.data, "target": self.target, "last_activity": stamp}


class Routes:
    """The routing table: the longest path that holds a request's path wins, by whole segments."""

    def __init__(self) -> None:
        self.by_path: dict[str, Route] = {}

    @staticmethod
    def clean(path: str) -> str:
        return "/" + path.strip("/")

    def match(self, path: str) -> Route | None:
        """The route of a decoded request path, None where nobody serves it."""
        parts = self.clean(path).split("/")
        for length in range(len(parts), 0, -1):
            if route := self.by_path.get("/".join(parts[:length]) or "/"):
                return route
        return None


class Proxy:
    """The public side (`forward`) and the hub's side (`api`) of one routing table."""

    def __init__(self, session: aiohttp.ClientSession, *, token: str, error_target: str | None = None) -> None:
        self._session = session
        self._token = token
        self._error_target = error_target
        self.routes = Routes()

    # -- the hub's side -------------------------------------------------------------------------------------------

    async def api(self, request: web.Request) -> web.Response:
        """`/api/routes[/path]`: GET, POST and DELETE, with the shared token."""
        if request.headers.get("Authorization") != f"token {self._token}":
            raise web.HTTPForbidden
        path = Routes.clean(request.match_info.get("path", ""))
        known = self.routes.by_path
        if request.method == "POST":
            body = await request.json()
            known[path] = Route(str(body.pop("target")).rstrip("/"), body)
            log.info("route added path=%s target=%s", path, known[path].target)
            return web.Response(status=201)
        if request.method == "DELETE":
            found = known.pop(path, None)
            log.info("route removed path=%s", path)
            return web.Response(status=204 if found else 404)
        if path == "/":
            return web.json_response({name: route.document() for name, route in known.items()})
        if path not in known:
            raise web.HTTPNotFound
        return web.json_response(known[path].document())

    # -- the public side ------------------------------------------------------------------------------------------

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """The answer of whoever serves the path, passed on as it comes."""
        route = self.routes.match(request.path)
        if route is None:
            return await self._error(404, request)
        url = URL(route.target + request.raw_path, encoded=True)
        try:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._websocket(request, route, url)
            return await self._http(request, route, url)
        except aiohttp.WSServerHandshakeError as error:
            return web.Response(status=error.status, text=error.message)
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            log.warning("no answer path=%s target=%s: %s", request.path, route.target, error)
            return await self._error(503, request)

    async def _http(self, request: web.Request, route: Route, url: URL) -> web.StreamResponse:
        body = request.content if request.can_read_body else None
        upstream = await self._session.request(
            request.method, url, headers=_headers(request), data=body, allow_redirects=False
        )
        async with upstream:
            response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
            for name, value in upstream.headers.items():
                if name.lower() not in _HOP:
                    response.headers.add(name, value)
            await response.prepare(request)
            # After the first byte there is no other answer to give: a broken stream ends the connection.
            try:
                async for chunk in upstream.content.iter_any():
                    await response.write(chunk)
            except aiohttp.ClientError as error:
                log.warning("stream broke path=%s: %s", request.path, error)
                response.force_close()
            if upstream.status < 300:
                route.touch()
        return response

    async def _websocket(self, request: web.Request, route: Route, url: URL) -> web.StreamResponse:
        wanted = [item.strip() for item in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if item.strip()]
        headers = {name: value for name, value in _headers(request).items() if name.lower() not in _HANDSHAKE}
        headers.pop("Sec-WebSocket-Protocol", None)
        async with self._session.ws_connect(
            url, headers=headers, protocols=wanted, max_msg_size=0, autoclose=True
        ) as upstream:
            chosen = [upstream.protocol] if upstream.protocol else []
            downstream = web.WebSocketResponse(protocols=chosen, max_msg_size=0)
            await downstream.prepare(request)
            pumps = [
                asyncio.create_task(_pump(downstream, upstream, route)),
                asyncio.create_task(_pump(upstream, downstream, route)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
            await downstream.close(code=upstream.close_code or 1000)
        return downstream

    async def _error(self, status: int, request: web.Request) -> web.Response:
        if self._error_target:
            url = URL(f"{self._error_target}/{status}").with_query(url=request.path)
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self._session.get(url) as page:
                    kind = page.headers.get("Content-Type", "text/html")
                    return web.Response(status=status, body=await page.read(), headers={"Content-Type": kind})
        return web.Response(status=status, text=f"{status}: nobody serves {request.path} right now\n")


def _headers(request: web.Request) -> dict[str, str]:
    """The request's headers for the next server, with the address it came from."""
    headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
    # One header line per name from here on; a browser's cookies may come in several.
    if cookies := request.headers.getall("Cookie", []):
        headers["Cookie"] = "; ".join(cookies)
    port = request.host.rpartition(":")[2] if ":" in request.host else "80"
    return headers | {
        "X-Forwarded-For": request.remote or "",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Port": port,
        "X-Forwarded-Host": request.host,
    }


_Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pump(source: _Socket, sink: _Socket, route: Route) -> None:
    async for message in source:
        route.touch()
        if message.type is aiohttp.WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await sink.send_bytes(message.data)


async def serve(options: argparse.Namespace, token: str) -> None:
    """Serve until cancelled."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
    connector = aiohttp.TCPConnector(limit=0)
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=jar, timeout=timeout, auto_decompress=False
    ) as session:
        proxy = Proxy(session, token=token, error_target=options.error_target)
        if options.default_target:
            proxy.routes.by_path["/"] = Route(options.default_target.rstrip("/"))
        public = web.Application()
        public.router.add_route("*", "/{path:.*}", proxy.forward)
        inner = web.Application()
        inner.router.add_route("*", "/api/routes", proxy.api)
        inner.router.add_route("*", "/api/routes/{path:.*}", proxy.api)
        async with contextlib.AsyncExitStack() as stack:
            sides = ((public, options.ip, options.port), (inner, options.api_ip, options.api_port))
            for application, ip, port in sides:
                runner = web.AppRunner(application, access_log=None, handler_cancellation=True, auto_decompress=False)
                await runner.setup()
                stack.push_async_callback(runner.cleanup)
                # Open streams are no reason to stay.
                await web.TCPSite(runner, ip, port).start()
                log.info("listening ip=%s port=%s", ip, port)
            await asyncio.Event().wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the proxy; the token comes in CONFIGPROXY_AUTH_TOKEN."""
    parser = argparse.ArgumentParser(prog="python -m gpu_launcher.lab.proxy", description=__doc__)
    parser.add_argument("--ip", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--api-ip", default="127.0.0.1")
    parser.add_argument("--api-port", type=int, default=8001)
    parser.add_argument("--default-target")
    parser.add_argument("--error-target")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    token = os.environ.get("CONFIGPROXY_AUTH_TOKEN")
    if not token:
        parser.error("set CONFIGPROXY_AUTH_TOKEN to the token that the hub uses")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options, token))


if __name__ == "__main__":
    main()
