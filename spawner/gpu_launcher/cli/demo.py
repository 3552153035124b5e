"""``gpu-launcher demo``: everything on this machine, ready to log in."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import time
from typing import Any

from gpu_launcher.cli.lab import add_settings_flags, build_servers, guarded, say, settings_from


def register(subparsers: Any) -> None:
    """Add ``demo``."""
    parser = subparsers.add_parser("demo", help="a lab with a hub and GPU profiles, until Ctrl-C")
    parser.add_argument("--name", default="demo", help="the lab's name (default: demo)")
    parser.add_argument("--port", type=int, help="the hub's port (default: 8000 where it is free)")
    add_settings_flags(parser)
    parser.set_defaults(run=guarded(_demo))


def _demo(arguments: argparse.Namespace) -> int:
    from gpu_launcher.lab.demo import demo

    settings = settings_from(arguments)
    build_servers()

    async def live() -> int:
        began = time.monotonic()
        async with demo(settings, name=arguments.name, port=arguments.port, say=say) as (lab, hub):
            cold = settings.boot_s + settings.device_plugin_s + settings.default_image_bytes / settings.pull_rate
            say(f"Ready after {time.monotonic() - began:.0f} s. Open")
            print(f"\n    {hub.url}\n", flush=True)
            say("and log in with any name and the password\n")
            print(f"    {hub.password}\n", flush=True)
            say("Pick A10G: its machine boots, its GPU is advertised and its image is pulled in about")
            say(f"{cold:.0f} s, as in a cloud (--fast for less). Meanwhile, elsewhere:\n")
            say(f"    export KUBECONFIG={shlex.quote(str(lab.kubeconfig))}")
            say(f"    gpu-launcher lab status --name {lab.name}      what runs, where its logs are\n")
            say("Ctrl-C ends everything.")
            await lab.ended()
        return 0

    try:
        return asyncio.run(live())
    except KeyboardInterrupt:
        say("\nEnded: nothing of the demo runs any more.")
        return 0
