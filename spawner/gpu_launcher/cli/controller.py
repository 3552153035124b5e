"""``gpu-launcher controller``: watches the cluster and publishes what it sees, until SIGTERM."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# Not an argument: arguments are seen by everybody on the machine.
TOKEN_VARIABLE = "GPU_LAUNCHER_TOKEN"  # noqa: S105  # the variable's name


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "controller",
        help="watch the cluster and publish which slots are ready, starting and in use",
        description="Writes one ConfigMap and nothing else. The shared secret for records of starts comes from the "
        f"environment variable {TOKEN_VARIABLE}; without it none are accepted.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings as YAML or JSON (default: the defaults)")
    parser.add_argument("--namespace", default="default", help="where the ConfigMap is (default: default)")
    parser.add_argument(
        "--state",
        default="gpu-launcher-state",
        metavar="NAME",
        help="the ConfigMap; it must exist, the chart makes it (default: gpu-launcher-state)",
    )
    parser.add_argument(
        "--listen",
        type=_address,
        default=("127.0.0.1", 8081),
        metavar="ADDRESS:PORT",
        help="for /healthz, /readyz, /metrics and /api/v1/starts (default: 127.0.0.1:8081)",
    )
    parser.add_argument(
        "--tick", type=_tick, default=2.0, metavar="SECONDS", help="between two looks, 0.5 to 10 (default: 2)"
    )
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="default: $KUBECONFIG, else the pod's account")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM and return the exit code: 0, 1 if nothing can listen there, 2 for an invalid configuration."""
    import asyncio
    import logging

    from gpu_launcher.controller.run import CannotListen, Place
    from gpu_launcher.controller.run import run as run_controller
    from gpu_launcher.settings.load import SettingsError, load_settings

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = load_settings(args.config or {})
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    host, port = args.listen
    token = os.environ.get(TOKEN_VARIABLE, "")
    place = Place(args.namespace, args.state, host, port, args.tick, token, args.kubeconfig)
    try:
        asyncio.run(run_controller(settings, place))
    except CannotListen as error:
        print(f"--listen {error}; choose another address or port", file=sys.stderr)
        return 1
    return 0


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r}: write an address and a port such as 127.0.0.1:8081")
    return host.strip("[]"), int(port)


def _tick(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.5 <= seconds <= 10:
        raise argparse.ArgumentTypeError(f"{text!r}: write seconds from 0.5 to 10")
    return seconds
