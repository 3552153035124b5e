"""The servers of a lab: their flags, their environment, and how each says that it is ready."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

import aiohttp

from gpu_launcher.lab.build import Servers
from gpu_launcher.lab.paths import LabPaths, write_atomically
from gpu_launcher.lab.pki import Pki
from gpu_launcher.lab.settings import LabSettings

log = logging.getLogger(__name__)

_POLL_S = 0.05
_LOOPBACK = "127.0.0.1"
_PORT_NAMES = (
    "api",
    "etcd",
    "etcd_peer",
    "scheduler",
    "controller_manager",
    "karpenter_metrics",
    "karpenter_health",
    "kwok",
)


@dataclass(frozen=True, slots=True)
class Server:
    """One server to start. ``health`` is the URL that answers 200 once it is ready, None where there is none."""

    name: str
    argv: tuple[str, ...]
    health: str | None = None
    token: str = field(default="", repr=False)
    env: Mapping[str, str] = field(default_factory=dict)


Launch = Callable[[Server], Awaitable[None]]
"""Starts a server and watches over it."""


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """The servers of one lab on one set of ports."""

    paths: LabPaths
    settings: LabSettings
    servers: Servers
    pki: Pki
    ports: Mapping[str, int]

    @property
    def url(self) -> str:
        """The API server's address."""
        return f"https://{_LOOPBACK}:{self.ports['api']}"

    def urls(self) -> dict[str, str]:
        """What a person or a test may open."""
        return {
            "api": self.url,
            "karpenter_metrics": f"http://{_LOOPBACK}:{self.ports['karpenter_metrics']}/metrics",
            "karpenter_health": f"http://{_LOOPBACK}:{self.ports['karpenter_health']}/healthz",
        }

    async def start_api(self, launch: Launch) -> None:
        """Start etcd and the API server; returns once the API server is ready (about 3 s)."""
        # Both at once: the API server waits for etcd by itself.
        etcd, api = self.etcd(), self.kube_apiserver()
        await launch(etcd)
        await launch(api)
        await until_ready(api)

    async def start_controllers(self, launch: Launch) -> None:
        """Start the scheduler and the controller manager; returns once both are ready."""
        await _start(launch, self.kube_scheduler(), self.kube_controller_manager())

    async def start_nodes(self, launch: Launch) -> None:
        """Start KWOK and Karpenter, which need their CRDs; returns once both are ready."""
        await _start(launch, self.kwok(), self.karpenter())

    def etcd(self) -> Server:
        """The database. Without fsync: a lab that loses power starts again from nothing anyway.

        With certificates: who writes here rules the cluster, and may be another user of this machine or a web page.
        """
        client = f"https://{_LOOPBACK}:{self.ports['etcd']}"
        peer = f"https://{_LOOPBACK}:{self.ports['etcd_peer']}"
        pki = self.pki
        return Server(
            "etcd",
            (
                str(self.servers.program("etcd")),
                "--name=lab",
                f"--data-dir={self.paths.etcd}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=lab={peer}",
                f"--cert-file={pki.certificate}",
                f"--key-file={pki.key}",
                f"--trusted-ca-file={pki.authority}",
                "--client-cert-auth",
                f"--peer-cert-file={pki.certificate}",
                f"--peer-key-file={pki.key}",
                f"--peer-trusted-ca-file={pki.authority}",
                "--peer-client-cert-auth",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ),
        )

    def kube_apiserver(self) -> Server:
        """The API server, with RBAC, so that a missing verb fails here as it would in a cluster."""
        pki = self.pki
        return Server(
            "kube-apiserver",
            (
                str(self.servers.program("kube-apiserver")),
                f"--etcd-servers=https://{_LOOPBACK}:{self.ports['etcd']}",
                f"--etcd-cafile={pki.authority}",
                f"--etcd-certfile={pki.certificate}",
                f"--etcd-keyfile={pki.key}",
                f"--secure-port={self.ports['api']}",
                f"--bind-address={_LOOPBACK}",
                f"--advertise-address={_LOOPBACK}",
                f"--cert-dir={pki.directory}",
                f"--tls-cert-file={pki.certificate}",
                f"--tls-private-key-file={pki.key}",
                f"--service-account-key-file={pki.service_account_key}",
                f"--service-account-signing-key-file={pki.service_account_key}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--token-auth-file={pki.token_file}",
                "--authorization-mode=RBAC",
                "--service-cluster-ip-range=10.96.0.0/16",
                # Endpoints may not lie on loopback, so nobody writes those of the `kubernetes` service.
                "--endpoint-reconciler-type=none",
                "--allow-privileged=true",
                "--profiling=false",
            ),
            health=f"{self.url}/readyz",
            token=pki.tokens["admin"],
        )

    def kube_scheduler(self) -> Server:
        """The stock scheduler; only its longest back-off is a setting."""
        kubeconfig = self.pki.kubeconfig("kube-scheduler", self.url)
        configuration = self.pki.directory / "kube-scheduler.json"
        document = {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "clientConnection": {"kubeconfig": str(kubeconfig), "qps": 200, "burst": 400},
            "leaderElection": {"leaderElect": False},
            "podMaxBackoffSeconds": round(self.settings.scheduler_backoff_s),
        }
        write_atomically(configuration, json.dumps(document))
        return Server(
            "kube-scheduler",
            (
                str(self.servers.program("kube-scheduler")),
                f"--config={configuration}",
                f"--authentication-kubeconfig={kubeconfig}",
                f"--authorization-kubeconfig={kubeconfig}",
                *self._serving("scheduler"),
            ),
            health=f"https://{_LOOPBACK}:{self.ports['scheduler']}/readyz",
        )

    def kube_controller_manager(self) -> Server:
        """The controller manager, without what speaks to a cloud."""
        kubeconfig = self.pki.kubeconfig("kube-controller-manager", self.url)
        return Server(
            "kube-controller-manager",
            (
                str(self.servers.program("kube-controller-manager")),
                "--leader-elect=false",
                "--controllers=*,-nodeipam,-cloud-node-lifecycle,-service-lb-controller,-node-route-controller",
                f"--kubeconfig={kubeconfig}",
                f"--authentication-kubeconfig={kubeconfig}",
                f"--authorization-kubeconfig={kubeconfig}",
                f"--root-ca-file={self.pki.authority}",
                f"--service-account-private-key-file={self.pki.service_account_key}",
                "--kube-api-qps=200",
                "--kube-api-burst=400",
                *self._serving("controller_manager"),
            ),
            health=f"https://{_LOOPBACK}:{self.ports['controller_manager']}/healthz",
        )

    def kwok(self) -> Server:
        """The fake kubelets."""
        return Server(
            "kwok",
            (
                str(self.servers.program("kwok")),
                f"--kubeconfig={self.pki.kubeconfig('kwok', self.url)}",
                "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
                "--node-lease-duration-seconds=40",
                "--enable-crds=Stage",
                f"--server-address={_LOOPBACK}:{self.ports['kwok']}",
            ),
            health=f"http://{_LOOPBACK}:{self.ports['kwok']}/healthz",
        )

    def karpenter(self) -> Server:
        """Karpenter with the KWOK provider and the lab's faults."""
        settings = self.settings
        return Server(
            "karpenter",
            (str(self.servers.program("karpenter")),),
            health=f"http://{_LOOPBACK}:{self.ports['karpenter_health']}/readyz",
            env={
                "KUBECONFIG": str(self.pki.kubeconfig("karpenter", self.url)),
                "DISABLE_LEADER_ELECTION": "true",
                "METRICS_PORT": str(self.ports["karpenter_metrics"]),
                "HEALTH_PROBE_PORT": str(self.ports["karpenter_health"]),
                "FEATURE_GATES": "CapacityBuffer=true",
                "LOG_LEVEL": settings.karpenter_log_level,
                "BATCH_IDLE_DURATION": go_duration(settings.batch_idle_s),
                "SYSTEM_NAMESPACE": "kube-system",
                "INSTANCE_TYPES_FILE_PATH": str(self.paths.instance_types),
                "LAB_FAULTS_FILE": str(self.paths.faults),
                "LAB_ALLOCATABLE_SKEW": f"{settings.allocatable_skew:.4f}",
                "LAB_ICE_MEMORY": go_duration(settings.ice_memory_s),
                "LAB_DEVICE_PLUGIN_LATE": "true",
            },
        )

    def _serving(self, port: str) -> Iterator[str]:
        yield f"--secure-port={self.ports[port]}"
        yield f"--bind-address={_LOOPBACK}"
        # Any certificate does: only the lab asks, and only for health.
        yield f"--tls-cert-file={self.pki.certificate}"
        yield f"--tls-private-key-file={self.pki.key}"


def assign_ports(free: Iterator[int]) -> dict[str, int]:
    """A port for every server that listens, in the order that ``free`` gives them."""
    return dict(zip(_PORT_NAMES, free, strict=False))


def base_environment(paths: LabPaths) -> dict[str, str]:
    """The environment of every server: nothing of the caller's, and a home inside the lab."""
    return {"PATH": "/usr/bin:/bin", "HOME": str(paths.directory), "TMPDIR": str(paths.tmp)}


def go_duration(seconds: float) -> str:
    """``seconds`` as a Go duration in milliseconds: ``1500ms``."""
    return f"{round(seconds * 1000)}ms"


async def until_ready(server: Server) -> None:
    """Wait until the server answers 200 on its health URL; the caller bounds the time."""
    if server.health is None:
        return
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    headers = {"Authorization": f"Bearer {server.token}"} if server.token else {}
    timeout = aiohttp.ClientTimeout(total=2)
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        while True:
            try:
                async with session.get(server.health, ssl=unverified) as answer:
                    if answer.status == 200:
                        log.info("ready server=%s", server.name)
                        return
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
            await asyncio.sleep(_POLL_S)


async def _start(launch: Launch, *servers: Server) -> None:
    for server in servers:
        await launch(server)
    await asyncio.gather(*(until_ready(server) for server in servers))
