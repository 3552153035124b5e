"""Raw, asynchronous access to the Kubernetes API: dictionaries in, dictionaries out.

``kubernetes.aio`` brings configuration, TLS and token refresh; parsing into views is the caller's.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp
from kubernetes.aio import client, config

from gpu_launcher.cluster.errors import Unavailable, error_from, error_from_status_object

Raw = dict[str, Any]
PatchKind = Literal["merge", "strategic", "json", "apply"]

_PATCH_TYPES: dict[str, str] = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}

# Seconds for one ordinary call. Too short fails under load, too long hides a dead server.
_CALL_TIMEOUT = 30.0
# The server ends a watch after this; a stream silent for half as long again is dead (a half-open connection).
_WATCH_SECONDS = 240
# A lab of 100 starts at once needs more than the client's default of 100 connections beside its watches.
_CONNECTIONS = 400


class KubeApi:
    """A connection to one API server under one identity. Use as an async context manager, or call ``aclose``."""

    def __init__(self, api_client: Any) -> None:
        self._client = api_client

    @classmethod
    async def connect(cls, kubeconfig: str | Path | None = None) -> Self:
        """A connection from ``kubeconfig``, else ``$KUBECONFIG``, else the pod's own service account."""
        configuration = client.Configuration()
        configuration.connection_pool_maxsize = _CONNECTIONS
        path = str(kubeconfig or os.environ.get("KUBECONFIG") or "")
        if not path and not os.environ.get("KUBERNETES_SERVICE_HOST"):
            path = str(Path("~/.kube/config").expanduser())
        if path:
            await config.load_kube_config(config_file=path, client_configuration=configuration)
        else:
            config.load_incluster_config(client_configuration=configuration)
        return cls(client.ApiClient(configuration))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def get(self, path: str, **query: Any) -> Raw:
        """One object or list. Raises ``NotFound``, ``Forbidden``, ``Unavailable`` ... like every call here."""
        return await self._call("GET", path, query=query)

    async def post(self, path: str, body: Raw, **query: Any) -> Raw:
        """The created object."""
        return await self._call("POST", path, body=body, query=query)

    async def put(self, path: str, body: Raw, **query: Any) -> Raw:
        """The replaced object."""
        return await self._call("PUT", path, body=body, query=query)

    async def patch(
        self, path: str, body: Any, kind: PatchKind = "merge", *, field_manager: str | None = None, force: bool = False
    ) -> Raw:
        """The patched object. ``kind="apply"`` is server-side apply and needs a ``field_manager``."""
        query: dict[str, Any] = {}
        if field_manager is not None:
            query["fieldManager"] = field_manager
        if kind == "apply":
            query["force"] = force
        return await self._call("PATCH", path, body=body, query=query, content_type=_PATCH_TYPES[kind])

    async def delete(self, path: str, body: Raw | None = None, **query: Any) -> Raw:
        """The object or a Status; ``body`` is DeleteOptions (grace period, preconditions)."""
        return await self._call("DELETE", path, body=body, query=query)

    async def watch(self, path: str, *, resource_version: str, **query: Any) -> AsyncIterator[tuple[str, Raw]]:
        """Events of a list from ``resource_version`` on, bookmarks included, until the server ends the stream.

        Raises ``Gone`` when the version is too old and ``Unavailable`` when the stream falls silent.
        """
        query |= {
            "watch": True,
            "allowWatchBookmarks": True,
            "resourceVersion": resource_version,
            "timeoutSeconds": _WATCH_SECONDS,
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_WATCH_SECONDS * 1.5)
        try:
            response = await self._send("GET", path, query, None, None, timeout)
            try:
                async for line in _lines(response):
                    event = json.loads(line)
                    if event.get("type") == "ERROR":
                        raise error_from_status_object(event.get("object") or {})
                    yield event["type"], event["object"]
            finally:
                response.close()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(0, type(error).__name__, f"watch {path}: {error}") from error

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: Any = None,
        content_type: str | None = None,
    ) -> Raw:
        timeout = aiohttp.ClientTimeout(total=_CALL_TIMEOUT)
        try:
            response = await self._send(method, path, query or {}, body, content_type, timeout)
            payload = await response.read()
            parsed: Raw = json.loads(payload) if payload else {}
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unavailable(0, type(error).__name__, f"{method} {path}: {error}") from error
        return parsed

    async def _send(
        self,
        method: str,
        path: str,
        query: dict[str, Any],
        body: Any,
        content_type: str | None,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type or "application/json"
        pairs = [(key, _text(value)) for key, value in query.items() if value is not None]
        _, url, headers, body, _ = await self._client.param_serialize(
            method, path, query_params=pairs, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        answer = await self._client.call_api(method, url, headers, body, _request_timeout=timeout)
        response: aiohttp.ClientResponse = answer.response
        if response.status >= 400:
            payload = await response.read()
            raise error_from(response.status, payload, response.headers.get("Retry-After"))
        return response


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    # aiohttp's own line reader refuses lines longer than its buffer; objects may be longer.
    pending = b""
    async for chunk in response.content.iter_any():
        pending += chunk
        *complete, pending = pending.split(b"\n")
        for line in complete:
            if line.strip():
                yield line
        await asyncio.sleep(0)
