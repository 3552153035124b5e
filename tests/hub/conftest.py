"""Makes spawners without a hub and without a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import kubespawner.spawner
import pytest
from traitlets.config import Config

from gpu_launcher.hub.spawner import GpuSpawner
from gpu_launcher.hub.usage import Reservations
from spawners import DOCUMENT, Build, FakeReflector, FakeUser, Group


@pytest.fixture
def reflector() -> FakeReflector:
    return FakeReflector()


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, reflector: FakeReflector) -> Build:
    """Return a maker of spawners: ``build(user=..., groups=[...], options={...}, KubeSpawner={...})``."""

    async def watch(self: GpuSpawner, replace: bool = False) -> FakeReflector:
        return reflector

    monkeypatch.setattr(kubespawner.spawner, "load_config", lambda **_: None)
    monkeypatch.setattr(kubespawner.spawner, "shared_client", lambda *_: SimpleNamespace())
    monkeypatch.setattr(GpuSpawner, "_start_watching_pods", watch)
    monkeypatch.setattr(GpuSpawner, "watch_cluster", watch)
    monkeypatch.setattr(GpuSpawner, "pod_reflector", reflector)
    monkeypatch.setattr(GpuSpawner, "reservations", Reservations())

    def make(
        *,
        user: str = "ada",
        groups: tuple[str, ...] = (),
        server: str = "",
        document: Mapping[str, Any] = DOCUMENT,
        **sections: Any,
    ) -> GpuSpawner:
        config = Config({name: dict(values) for name, values in sections.items()})
        config.GpuSpawner.settings = dict(document)
        config.GpuSpawner.instance = "jupyter.test"
        hub = SimpleNamespace(base_url="/hub/", url="http://hub/", public_host="", api_url="http://hub/hub/api")
        orm = SimpleNamespace(user_options=None, name=server, server=None)
        owner = FakeUser(user, groups=[Group(name) for name in groups])
        spawner = GpuSpawner(_mock=True, user=owner, hub=hub, orm_spawner=orm, config=config)
        spawner.api_token = "canary-token"
        return spawner

    return make
