"""A real JupyterHub in this process, with the proxy and the Kubernetes API replaced: neither is under test here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import SimpleNamespace
from typing import Any

import aiohttp
import kubespawner.spawner
import pytest
from aiohttp import web
from jupyterhub.app import JupyterHub
from jupyterhub.proxy import Proxy
from kubernetes_asyncio.client import ApiClient
from kubernetes_asyncio.client.rest import ApiException
from traitlets.config import Config

from browsers import Browser, logged_in
from gpu_launcher.cluster.api import KubeApi
from gpu_launcher.cluster.errors import Forbidden
from gpu_launcher.explain.history import History
from gpu_launcher.hub.configure import configure
from gpu_launcher.hub.spawner import GpuSpawner
from gpu_launcher.hub.usage import Reservations
from gpu_launcher.hub.watch import ClusterWatch
from gpu_launcher.hub.watched import WatchedSpawner
from spawners import DOCUMENT, FakeReflector

TOKEN = "tester-token"


class NoProxy(Proxy):
    """Routes are remembered and lead nowhere; requests go to the hub's own port."""

    should_start = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.routes: dict[str, Any] = {}

    async def add_route(self, routespec: str, target: str, data: Any) -> None:
        self.routes[routespec] = {"routespec": routespec, "target": target, "data": data}

    async def delete_route(self, routespec: str) -> None:
        self.routes.pop(routespec, None)

    async def get_all_routes(self) -> dict[str, Any]:
        return self.routes


class QuietHub(JupyterHub):
    """A hub that leaves signals and the log's handlers to the test run."""

    def init_signal(self) -> None:
        pass

    def load_config_file(self, *args: Any, **kwargs: Any) -> None:
        pass

    def init_logging(self) -> None:
        super().init_logging()
        self.log.handlers.clear()
        self.log.propagate = True


class FakeCluster(FakeReflector):
    """Pods that run as soon as they are created; ``answers`` holds errors for the next creations instead."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[ApiException] = []
        self.created: list[dict[str, Any]] = []
        self.hidden = False
        """Whether the launcher may look at nothing; KubeSpawner's own look is another one."""
        self.watching: list[asyncio.Queue[tuple[str, dict[str, Any]]]] = []

    async def create_namespaced_pod(self, namespace: str, pod: Any) -> Any:
        if self.answers:
            raise self.answers.pop(0)
        made: dict[str, Any] = ApiClient.__new__(ApiClient).sanitize_for_serialization(pod)
        made["metadata"] |= {"uid": f"uid-{len(self.created)}", "namespace": namespace}
        state = {"name": "notebook", "ready": True, "state": {"running": {}}}
        made["status"] = {"phase": "Running", "podIP": "127.0.0.1", "containerStatuses": [state]}
        self.created.append(made)
        self.pods[f"{namespace}/{pod.metadata.name}"] = made
        self._changed("ADDED", made)
        return SimpleNamespace(metadata=SimpleNamespace(uid=made["metadata"]["uid"]))

    async def delete_namespaced_pod(self, name: str, namespace: str, **_: Any) -> None:
        gone = self.pods.pop(f"{namespace}/{name}", None)
        if gone:
            self._changed("DELETED", gone)

    def _changed(self, kind: str, pod: dict[str, Any]) -> None:
        for queue in self.watching:
            queue.put_nowait((kind, pod))


class FakeApi:
    """The launcher's own look at the fake cluster, in which there are pods and nothing else."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    async def get(self, path: str, **_: Any) -> dict[str, Any]:
        if self._cluster.hidden:
            raise Forbidden(403, "Forbidden", "the hub may not look")
        found = list(self._cluster.pods.values()) if path.endswith("/pods") else []
        return {"items": found, "metadata": {"resourceVersion": "1"}}

    async def watch(self, path: str, **_: Any) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        queue: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        if path.endswith("/pods"):
            self._cluster.watching.append(queue)
            for pod in self._cluster.pods.values():
                yield "MODIFIED", pod
        while True:
            yield await queue.get()


class Hub:
    """What a test asks of the running hub."""

    def __init__(self, app: QuietHub, cluster: FakeCluster, session: aiohttp.ClientSession) -> None:
        self.app, self.cluster, self.session = app, cluster, session
        self.url = f"http://127.0.0.1:{app.hub_port}"

    @property
    def failures(self) -> int:
        """The hub's count of consecutive failures."""
        count: int = self.app.tornado_application.settings.get("failure_count", 0)
        return count

    @failures.setter
    def failures(self, count: int) -> None:
        self.app.tornado_application.settings["failure_count"] = count

    async def api(self, method: str, path: str, body: Any = ..., raw: bytes | None = None) -> tuple[int, Any]:
        """Return status and JSON of a REST call; without *body* the request has none."""
        data = raw if raw is not None else None if body is ... else json.dumps(body).encode()
        headers = {"Authorization": f"token {TOKEN}", "Content-Type": "application/json"}
        async with self.session.request(method, f"{self.url}/hub/api{path}", data=data, headers=headers) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None

    async def user(self, name: str, groups: tuple[str, ...] = ()) -> None:
        """Make a user with these groups."""
        await self.api("POST", f"/users/{name}")
        for group in groups:
            await self.api("POST", f"/groups/{group}")
            await self.api("POST", f"/groups/{group}/users", {"users": [name]})

    async def start(self, user: str, body: Any = ..., server: str | None = None) -> tuple[int, Any]:
        """Start a server over REST."""
        return await self.api("POST", f"/users/{user}/{'server' if server is None else f'servers/{server}'}", body)

    async def stop(self, user: str, server: str | None = None) -> None:
        """Stop a server over REST."""
        await self.api("DELETE", f"/users/{user}/{'server' if server is None else f'servers/{server}'}")

    def browser(self, user: str) -> AbstractAsyncContextManager[Browser]:
        """A logged-in browser without scripts."""
        return logged_in(self.url, user)

    def saved(self, user: str) -> Any:
        """Return the options that the database holds for the user's default server."""
        orm = self.app.users[user].orm_spawners[""]
        self.app.db.refresh(orm)
        return orm.user_options


@contextlib.contextmanager
def replaced_cluster() -> Iterator[FakeCluster]:
    """Put a fake cluster under every spawner."""
    cluster = FakeCluster()

    async def watch(self: GpuSpawner, replace: bool = False) -> FakeCluster:
        return cluster

    async def connect() -> FakeApi:
        return FakeApi(cluster)

    watches: dict[Any, ClusterWatch] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KubeApi, "connect", connect)
        patch.setattr(ClusterWatch, "_known", watches)
        patch.setattr(WatchedSpawner, "history", History())
        patch.setattr(kubespawner.spawner, "load_config", lambda **_: None)
        patch.setattr(kubespawner.spawner, "shared_client", lambda *_: cluster)
        patch.setattr(GpuSpawner, "_start_watching_pods", watch)
        patch.setattr(GpuSpawner, "pod_reflector", cluster)
        patch.setattr(GpuSpawner, "reservations", Reservations())
        try:
            yield cluster
        finally:
            for known in watches.values():
                known.close()


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def notebook_server() -> AsyncIterator[int]:
    """Answer every request as a notebook server would; yields the port."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"version": "2"}, headers={"X-JupyterHub-Version": "5.5.0"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield port
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def running_hub(document: Mapping[str, Any] = DOCUMENT, **sections: Any) -> AsyncIterator[Hub]:
    """Run a hub with the launcher configured; further sections are the site's configuration."""
    async with notebook_server() as notebook_port:
        with replaced_cluster() as cluster:
            config = Config({name: dict(values) for name, values in sections.items()})
            site = Config({
                "JupyterHub": {
                    "authenticator_class": "dummy", "allow_named_servers": True, "cleanup_servers": False,
                    "db_url": "sqlite:///:memory:", "cookie_secret": b"x" * 32, "proxy_class": NoProxy,
                    "hub_ip": "127.0.0.1", "hub_port": free_port(),
                    "services": [{"name": "tester", "api_token": TOKEN}],
                    "load_roles": [
                        {"name": "tester", "services": ["tester"], "scopes": ["admin:users", "admin:servers",
                         "admin:groups"]}
                    ],
                },
                "DummyAuthenticator": {"allow_all": True},
                "Spawner": {"consecutive_failure_limit": 5},
                "KubeSpawner": {
                    "port": notebook_port, "events_enabled": False, "hub_connect_url": "http://127.0.0.1:1",
                    "k8s_api_request_retry_timeout": 1,
                },
            })  # fmt: skip
            site.merge(config)
            configure(site, **{name: section for name, section in document.items() if name != "version"})
            QuietHub.clear_instance()
            app = QuietHub.instance(config=site, log_level=logging.INFO)
            await app.initialize([])
            await app.start()
            async with aiohttp.ClientSession() as session:
                try:
                    yield Hub(app, cluster, session)
                finally:
                    app.http_server.stop()
                    await app.cleanup()
                    QuietHub.clear_instance()


def api_error(status: int, message: str) -> ApiException:
    """Return an error as the API server's client raises it."""
    body = json.dumps({"kind": "Status", "code": status, "message": message})
    return ApiException(http_resp=SimpleNamespace(status=status, reason="Error", data=body, getheaders=dict))
