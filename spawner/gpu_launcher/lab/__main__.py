"""``python -m gpu_launcher.lab NAME``: the supervisor of one lab, started by ``gpu-launcher lab up``."""

from __future__ import annotations

import asyncio
import logging
import sys

from gpu_launcher.lab.build import Build
from gpu_launcher.lab.paths import LabPaths
from gpu_launcher.lab.settings import LabSettings
from gpu_launcher.lab.supervisor import Supervisor


def main(name: str) -> int:
    """The exit status of the lab ``name``, whose directory and settings are prepared."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    paths = LabPaths.named(name)
    settings = LabSettings.read(paths.settings)
    servers = Build().ensure()

    async def live() -> int:
        return await Supervisor(paths, settings, servers).run()

    return asyncio.run(live())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
