"""Fixtures of the chart's tests."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from rendering import ROOT, VALUES, Helm, Manifest


@pytest.fixture(scope="session")
def helm(helm_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(helm_binary, tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def helm_binary() -> Path:
    """Env HELM, else the lab's own build."""
    configured = os.environ.get("HELM")
    if configured:
        return Path(configured)
    from gpu_launcher.lab.helm import helm_binary

    return helm_binary()


SHOWN = [None, *sorted(file.stem for file in VALUES.glob("*.yaml"))]


@pytest.fixture(params=SHOWN, ids=lambda name: name or "defaults")
def values(request: pytest.FixtureRequest) -> str | None:
    """Each values file that we show to an admin, and none."""
    name: str | None = request.param
    return name


@pytest.fixture
def objects(helm: Helm, values: str | None) -> list[Manifest]:
    return helm.template(values=values)


@pytest.fixture(scope="session")
def karpenter_module(helm_binary: Path) -> Path:
    """The Karpenter module that the lab is built from: its definitions say what a NodePool may hold."""
    from gpu_launcher.lab.paths import cache_root

    wanted = (ROOT / "spawner/gpu_launcher/lab/go/karpenter/go.mod").read_text()
    version = re.search(r"sigs\.k8s\.io/karpenter (v\S+)", wanted)
    assert version is not None
    return cache_root() / "go" / "mod" / "sigs.k8s.io" / f"karpenter@{version[1]}"
