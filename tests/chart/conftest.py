"""Fixtures of the chart's tests. They use the lab's Helm and definitions, built on first use; no cluster runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from rendering import VALUES, Helm, Manifest

from gpu_launcher.lab.build import Build, Servers

# Each values file that an admin may start from, and none.
SHOWN = [None, *sorted(file.stem for file in VALUES.glob("*.yaml"))]


@pytest.fixture(scope="session")
def servers() -> Servers:
    return Build().ensure()


@pytest.fixture(scope="session")
def helm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Env HELM, else the lab's own."""
    configured = os.environ.get("HELM")
    binary = configured or request.getfixturevalue("servers").program("helm")
    return Helm(Path(binary), tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def definitions(servers: Servers) -> dict[tuple[str, str], Any]:
    """(apiVersion, kind) to schema, of every custom kind that the lab's cluster knows."""
    schemas = {}
    for file in (file for directory in servers.crds for file in directory.glob("*.json")):
        spec = json.loads(file.read_text())["spec"]
        for version in spec["versions"]:
            key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
            schemas[key] = version["schema"]["openAPIV3Schema"]
    return schemas


@pytest.fixture(params=SHOWN, ids=lambda name: name or "defaults")
def values(request: pytest.FixtureRequest) -> str | None:
    name: str | None = request.param
    return name


@pytest.fixture
def objects(helm: Helm, values: str | None) -> list[Manifest]:
    return helm.template(values=values)
