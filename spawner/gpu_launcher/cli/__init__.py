"""The command ``gpu-launcher``. Exit status: 0 done, 1 a finding or a failure, 2 wrong usage or configuration."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Sequence

from gpu_launcher import __version__

# Each module registers its subcommands; none imports anything heavy until its command runs.
_COMMANDS = ("controller", "demo", "eta", "lab", "lint", "settings")

# Top-level module that is missing -> the extra that brings it.
_EXTRAS = {
    "aiohttp": "controller",
    "cryptography": "lab",
    "jupyterhub": "lab",
    "jupyterlab": "lab",
    "kubernetes": "controller",
    "kubespawner": "lab",
    "prometheus_client": "controller",
    "pydantic": "controller",
    "yaml": "controller",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of one command line, ``sys.argv`` where ``argv`` is None."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRAS:
            raise
        # The lab holds all the others.
        extra = "lab" if arguments.command in ("lab", "demo") else _EXTRAS[missing]
        print(
            f"gpu-launcher {arguments.command} needs the package {missing}: "
            f"pip install 'jupyterhub-gpu-launcher[{extra}]'",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # `gpu-launcher ... | head`: the reader has what it wants.
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gpu-launcher", description="GPU sessions for JupyterHub on Karpenter")
    parser.add_argument("--version", action="version", version=f"gpu-launcher {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name in _COMMANDS:
        if importlib.util.find_spec(f"gpu_launcher.cli.{name}") is not None:
            importlib.import_module(f"gpu_launcher.cli.{name}").register(subparsers)
    return parser
