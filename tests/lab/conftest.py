"""One control plane for all tests of the session, started on first use."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from gpu_launcher.cluster.api import KubeApi
from gpu_launcher.lab.handle import Lab, running_lab
from gpu_launcher.lab.settings import LabSettings


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
