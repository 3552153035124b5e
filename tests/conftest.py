"""One control plane for all tests of the session, started on first use, and what several kinds of tests run on it."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator

import jupyterhub
import pytest

from gpu_launcher.cluster.api import KubeApi
from gpu_launcher.lab.handle import Lab, running_lab
from gpu_launcher.lab.hub import Hub, start_hub
from gpu_launcher.lab.install import install_product
from gpu_launcher.lab.settings import LabSettings
from starts import DOCUMENT, launcher_config

# Both sets of packages share a control plane; each has hubs of its own.
HUB_NAMESPACE = f"hub{jupyterhub.version_info[0]}"

# A second release in a cluster that has NodePools and priority classes from the first.
BESIDE = {"nodePools": {"create": False}, "nodeClass": {"create": False}, "priorityClasses": {"create": False}}


@pytest.fixture(scope="session")
async def lab() -> AsyncIterator[Lab]:
    """A lab with short delays; ``GPU_LAUNCHER_TEST_LAB=<name>`` names one that runs already, for several runs."""
    name = os.environ.get("GPU_LAUNCHER_TEST_LAB")
    if name:
        yield Lab.attach(name)
        return
    async with running_lab(LabSettings.fast()) as started:
        yield started


@pytest.fixture(scope="session")
async def api(lab: Lab) -> AsyncIterator[KubeApi]:
    """A connection to the lab as administrator."""
    async with lab.api() as connection:
        yield connection


@pytest.fixture(scope="session")
async def product(lab: Lab) -> None:
    """The chart, installed with its NodePools."""
    await install_product(lab)


@pytest.fixture(scope="session")
async def launcher_hub(lab: Lab, product: None) -> AsyncIterator[Hub]:
    """A hub of this set of packages with the launcher's spawner, shared by the tests that leave it as it was.

    The chart is beside it, with its roles and a controller; the NodePools are the cluster's.
    """
    await install_product(lab, HUB_NAMESPACE, {**BESIDE, "settings": DOCUMENT})
    hub = await start_hub(lab, HUB_NAMESPACE, launcher_config(DOCUMENT), python=sys.executable)
    yield hub
    await hub.stop()
