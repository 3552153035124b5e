"""The demo: a lab, the product installed on it, and a hub where a person can log in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import yaml

from gpu_launcher.lab.handle import running_lab
from gpu_launcher.lab.install import NAMESPACE, install_product, lab_values, merged
from gpu_launcher.lab.paths import LabError
from gpu_launcher.lab.ports import is_free
from gpu_launcher.lab.settings import LabSettings

if TYPE_CHECKING:
    from gpu_launcher.lab.handle import Lab
    from gpu_launcher.lab.hub import Hub

DEFAULT_PORT = 8000

# What an admin adds to the hub: the same two lines that the overlay for zero-to-jupyterhub holds.
_HUB_CONFIG = """
from pathlib import Path

from gpu_launcher import configure

configure(c, file=Path(__file__).with_name("settings.yaml"))
"""


@asynccontextmanager
async def demo(
    settings: LabSettings,
    *,
    name: str = "demo",
    port: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[tuple[Lab, Hub]]:
    """A running demo for the length of a block. ``port`` None: 8000 where it is free, else another.

    Raises ``LabError`` with the reason and the right log when a part does not come up.
    """
    if port is not None and not (0 < port < 65536 and is_free(port)):
        raise LabError(f"--port {port}: nothing can listen there now; choose another, or leave it out")
    async with running_lab(settings, name=name) as lab:
        say(f"Control plane ready after {lab.state['seconds']} s; installing the chart and starting a hub")
        hub = await start_launcher_hub(lab, port=port or (DEFAULT_PORT if is_free(DEFAULT_PORT) else None))
        yield lab, hub


async def start_launcher_hub(
    lab: Lab, namespace: str = NAMESPACE, *, document: Mapping[str, Any] | None = None, port: int | None = None
) -> Hub:
    """A hub with the launcher's spawner: the chart beside it, and an admin's two lines in its configuration.

    ``document`` is the launcher's configuration; None is the built-in profiles. ``port`` None: a free one.
    """
    from gpu_launcher.lab.hub import start_hub

    values: dict[str, Any] = {"settings": document} if document else {}
    settings = merged(lab_values(lab.settings), values)["settings"]
    files = {"settings.yaml": yaml.safe_dump(settings, sort_keys=False)}
    # Side by side: the hub needs the chart's permissions at the first start of a server only.
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(install_product(lab, namespace, values))
            hub = group.create_task(start_hub(lab, namespace, _HUB_CONFIG, files=files, port=port))
    except ExceptionGroup as problems:
        # The one that came first cancelled the other.
        raise problems.exceptions[0] from None
    return hub.result()
