"""A JupyterHub on the lab: hub and proxy as pods, under the service account and the rights that users get."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from hashlib import sha256
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import aiohttp
import yaml

from gpu_launcher.cluster.api import KubeApi
from gpu_launcher.cluster.errors import Conflict, NotFound
from gpu_launcher.cluster.paths import core, group
from gpu_launcher.lab.handle import Lab
from gpu_launcher.lab.paths import LabError
from gpu_launcher.lab.ports import is_free, ports_of
from gpu_launcher.lab.process import hint

# A hub on a busy machine with two cores needs 15 s; a minute says that something is wrong.
_START_S = 60.0
_STOP_S = 60.0
_POLL_S = 0.1
_MANAGER = "gpu-launcher-lab"
_HUB_SELECTOR = "app.kubernetes.io/name=jupyterhub,component=hub"

# Before the caller's configuration: what zero-to-jupyterhub would configure, on this machine's addresses.
_BASE = Template("""\
import os

c = get_config()  # noqa: F821
c.JupyterHub.bind_url = "http://127.0.0.1:$proxy_port"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:$hub_port"
c.JupyterHub.hub_connect_url = "http://127.0.0.1:$hub_port"
c.JupyterHub.db_url = "sqlite:///jupyterhub.sqlite"
c.JupyterHub.cleanup_servers = False
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:$api_port"
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = os.environ["LAB_PASSWORD"]
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
c.Spawner.http_timeout = 60
c.KubeSpawner.namespace = "$namespace"
c.KubeSpawner.start_timeout = 300
c.KubeSpawner.image = "quay.io/jupyter/minimal-notebook:latest"
c.KubeSpawner.storage_pvc_ensure = True
c.KubeSpawner.storage_class = "gp3"
c.KubeSpawner.storage_capacity = "10Gi"
c.KubeSpawner.storage_access_modes = ["ReadWriteOnce"]
c.KubeSpawner.volumes = [{"name": "home", "persistentVolumeClaim": {"claimName": "{pvc_name}"}}]
c.KubeSpawner.volume_mounts = [{"name": "home", "mountPath": "/home/jovyan"}]
c.KubeSpawner.tolerations = [
    {"key": key, "operator": "Equal", "value": "user", "effect": "NoSchedule"}
    for key in ("hub.jupyter.org/dedicated", "hub.jupyter.org_dedicated")
]
""")

# After it, so that services and roles of the caller's own are kept.
_TAIL = """
c.JupyterHub.services.append({"name": "lab", "api_token": os.environ["LAB_API_TOKEN"]})
c.JupyterHub.load_roles.append({
    "name": "lab",
    "services": ["lab"],
    "scopes": ["admin:users", "admin:groups", "admin:servers", "access:servers", "tokens", "read:hub", "proxy",
               "admin:server_state", "read:metrics", "list:services"],
})
"""


class HubError(LabError):
    """The hub's REST API refused a call; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(f"hub API: {status} {message[:500]}")


class Hub:
    """A running hub. `url` is the proxy's, where users go; `token` may do everything on the hub's REST API.

    `password` lets anybody log in, under any name: who can, runs code as the lab's owner.
    """

    def __init__(self, lab: Lab, namespace: str, url: str, *, token: str, password: str) -> None:
        self.lab = lab
        self.namespace = namespace
        self.url = url
        self.token = token
        self.password = password

    @property
    def log(self) -> Path:
        """The log of the newest hub pod."""
        return self._newest("hub.log")

    @property
    def proxy_log(self) -> Path:
        """The log of the newest proxy pod."""
        return self._newest("proxy.log")

    def _newest(self, name: str) -> Path:
        found = self.lab.paths.pods.glob(f"{self.namespace}_*/{name}")

        def order(path: Path) -> tuple[bool, float]:
            # A pod that has a process goes before one that only left its log.
            return path.with_suffix(".pid").exists(), path.stat().st_mtime

        return max(found, key=order, default=self.lab.paths.pods / name)

    async def api(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """The JSON answer of the hub's REST API, None where it has none; `path` is as in "users/ann/server".

        Raises `HubError` for a refusal.
        """
        url = f"{self.url}/hub/api/{path.lstrip('/')}"
        headers = {"Authorization": f"token {self.token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, url, json=body) as response,
        ):
            text = await response.text()
            if response.status >= 400:
                raise HubError(response.status, text)
            return json.loads(text) if text.strip() else None

    async def start_server(self, user: str, name: str = "", options: Any = None, *, timeout_s: float = 300.0) -> str:
        """The URL of a started server of `user`, who is created where needed. Raises `LabError` with the reason.

        Waits until the server is ready or the hub says why it is not.
        """
        with contextlib.suppress(HubError):
            await self.api(f"users/{user}", "POST")
        path = f"users/{user}/servers/{name}" if name else f"users/{user}/server"
        await self.api(path, "POST", options)
        last: dict[str, Any] = {}
        async with asyncio.timeout(timeout_s):
            async for event in self.progress(user, name):
                last = event
        if not last.get("ready"):
            raise LabError(f"server of {user} did not start: {last.get('message')}; {hint(self.log)}")
        return f"{self.url}/user/{user}/{f'{name}/' if name else ''}"

    async def progress(self, user: str, name: str = "") -> AsyncIterator[dict[str, Any]]:
        """The hub's progress events of a start, as the pending page gets them."""
        path = f"users/{user}/servers/{name}/progress" if name else f"users/{user}/server/progress"
        headers = {"Authorization": f"token {self.token}"}
        timeout = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(headers=headers, timeout=timeout) as session,
            session.get(f"{self.url}/hub/api/{path}") as response,
        ):
            if response.status >= 400:
                raise HubError(response.status, await response.text())
            async for line in response.content:
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])

    async def stop_server(self, user: str, name: str = "", *, timeout_s: float = 60.0) -> None:
        """Stop a server and wait until its pod is gone, as far as the hub waits for it."""
        path = f"users/{user}/servers/{name}" if name else f"users/{user}/server"
        await self.api(path, "DELETE")

        async def stopped() -> bool:
            return name not in (await self.api(f"users/{user}")).get("servers", {})

        await _until(stopped, timeout_s)

    async def restart(self) -> None:
        """Delete the hub's pod and wait until the next one answers; servers live on."""
        async with self.lab.api() as api:
            pods = await self._hub_pods(api)
            for pod in pods:
                await api.delete(core("pods", namespace=self.namespace, name=pod["metadata"]["name"]))
            gone = {pod["metadata"]["uid"] for pod in pods}
            await self.wait(api, without=gone)

    async def kill9(self) -> None:
        """Kill the hub's process as the kernel's OOM killer would, and wait until its container answers again."""
        async with self.lab.api() as api:
            before = {item["metadata"]["uid"]: _restarts(item) for item in await self._hub_pods(api)}
            os.kill(int(self._newest("hub.pid").read_text()), signal.SIGKILL)

            async def restarted() -> bool:
                pods = await self._hub_pods(api)
                return any(_restarts(pod) > before.get(pod["metadata"]["uid"], -1) for pod in pods)

            await _until(restarted, _START_S)
            await self.wait(api)

    async def stop(self) -> None:
        """Delete the namespace with all that is in it, sessions too, and wait until it is gone."""
        async with self.lab.api() as api, asyncio.timeout(_STOP_S):
            path = core("namespaces", name=self.namespace)
            with contextlib.suppress(NotFound):
                await api.delete(path)
                while True:
                    await api.get(path)
                    await asyncio.sleep(_POLL_S)
        # Its database knows of volumes that went with the namespace.
        shutil.rmtree(self.lab.directory / "hubs" / self.namespace, ignore_errors=True)

    async def wait(self, api: KubeApi, without: set[str] | None = None) -> None:
        """Wait until a hub pod (other than those in `without`) is Ready and answers through the proxy."""
        try:
            await _until(lambda: self._answers(api, without or set()), _START_S)
        except TimeoutError:
            problem = f"the hub does not answer at {self.url} after {_START_S:.0f} s: {hint(self.log)}"
            if await self._ready_pods(api, without or set()):
                problem += f"\nThe hub itself is ready, so its proxy may be the reason: {hint(self.proxy_log)}"
            raise LabError(problem) from None

    async def _answers(self, api: KubeApi, without: set[str]) -> bool:
        if not await self._ready_pods(api, without):
            return False
        try:
            await self.api("info")
        except (aiohttp.ClientError, HubError):
            return False
        return True

    async def _ready_pods(self, api: KubeApi, without: set[str]) -> list[dict[str, Any]]:
        pods = await self._hub_pods(api)
        return [pod for pod in pods if pod["metadata"]["uid"] not in without and _is_ready(pod)]

    async def _hub_pods(self, api: KubeApi) -> list[dict[str, Any]]:
        found = await api.get(core("pods", namespace=self.namespace), labelSelector=_HUB_SELECTOR)
        items: list[dict[str, Any]] = found["items"]
        return items


async def start_hub(
    lab: Lab,
    namespace: str = "jupyter",
    config: str = "",
    *,
    python: str | Path | None = None,
    files: Mapping[str, str] | None = None,
    port: int | None = None,
) -> Hub:
    """A hub that answers, in its own namespace. Called again for a namespace, it changes that hub's configuration.

    `config` is Python text that follows the lab's own configuration in jupyterhub_config.py; `files` lie beside that
    file. `python` is the interpreter of the hub (default: the lab's). `port` is the proxy's (default: a free one).
    Raises `LabError` with the hub's log when it does not come up.
    """
    async with lab.api() as api:
        known = await _known_secret(api, namespace)
        ports = _ports(lab, known, port)
        values = {"namespace": namespace, **{name: str(number) for name, number in ports.items()}}
        text = _BASE.substitute(values) + config + _TAIL
        documents = {**(files or {}), "jupyterhub_config.py": text}
        state = lab.directory / "hubs" / namespace
        values |= {
            "python": str(python or ""),
            "state": str(state),
            "config_hash": sha256(json.dumps(documents, sort_keys=True).encode()).hexdigest()[:12],
        }
        manifest = Template(resources.files("gpu_launcher.lab").joinpath("manifests/hub.yaml").read_text())
        objects = list(yaml.safe_load_all(manifest.substitute(values)))
        secret = known or {
            "CONFIGPROXY_AUTH_TOKEN": secrets.token_hex(32),
            "JPY_COOKIE_SECRET": secrets.token_hex(32),
            "LAB_API_TOKEN": secrets.token_hex(32),
            # People type it: 40 bits are enough against guesses over HTTP.
            "LAB_PASSWORD": secrets.token_hex(5),
            **{name.upper(): str(number) for name, number in ports.items()},
        }
        objects.insert(1, _named("Secret", namespace) | {"stringData": secret})
        objects.insert(1, _named("ConfigMap", namespace) | {"data": documents})
        old = {pod["metadata"]["uid"] for pod in await _pods_to_replace(api, namespace, values["config_hash"])}
        for item in objects:
            await _apply(api, item)
        url = f"http://127.0.0.1:{ports['proxy_port']}"
        hub = Hub(lab, namespace, url, token=secret["LAB_API_TOKEN"], password=secret["LAB_PASSWORD"])
        await hub.wait(api, without=old)
    return hub


async def _until(holds: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        while not await holds():  # noqa: ASYNC110  # what is waited for happens in other processes
            await asyncio.sleep(_POLL_S)


def _ports(lab: Lab, known: Mapping[str, str] | None, proxy: int | None) -> dict[str, int]:
    names = ("proxy_port", "hub_port", "api_port")
    if known is not None:
        return {name: int(known[name.upper()]) for name in names}
    # From the far end of the lab's own ports: the control plane takes them from the near one.
    free = (number for number in reversed(ports_of(lab.block)) if number != proxy and is_free(number))
    try:
        found = {name: next(free) for name in names}
    except StopIteration:
        raise LabError(f"lab {lab.name!r} has no free port left for another hub; stop one") from None
    return found | ({"proxy_port": proxy} if proxy else {})


async def _known_secret(api: KubeApi, namespace: str) -> dict[str, str] | None:
    try:
        found = await api.get(core("secrets", namespace=namespace, name="hub"))
    except NotFound:
        return None
    return {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}


async def _pods_to_replace(api: KubeApi, namespace: str, config_hash: str) -> list[dict[str, Any]]:
    found = await api.get(core("pods", namespace=namespace), labelSelector=_HUB_SELECTOR)
    return [
        pod
        for pod in found["items"]
        if (pod["metadata"].get("annotations") or {}).get("gpu-launcher-lab/config") != config_hash
    ]


def _named(kind: str, namespace: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "hub", "namespace": namespace}}


async def _apply(api: KubeApi, item: dict[str, Any]) -> None:
    kind, version, meta = item["kind"], item["apiVersion"], item["metadata"]
    where = {"namespace": meta.get("namespace"), "name": meta["name"]}
    plural = f"{kind.lower()}s"
    path = core(plural, **where) if version == "v1" else group(version, plural, **where)
    for attempt in range(5):
        try:
            await api.patch(path, item, "apply", field_manager=_MANAGER, force=True)
        except Conflict:
            if attempt == 4:
                raise
            await asyncio.sleep(_POLL_S)
        else:
            return


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _restarts(pod: Mapping[str, Any]) -> int:
    return sum(item["restartCount"] for item in (pod.get("status") or {}).get("containerStatuses") or ())
