"""``gpu-launcher settings``: check a configuration, print its canonical form, its schema or its reference."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "settings",
        help="check a configuration and print its canonical form, or print its schema or reference",
        description="Exit code 0: valid; 2: not valid, with every problem on its own line.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings as YAML or JSON (default: the defaults)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--hash", action="store_true", help="print only the hash that hub and controller compare")
    what.add_argument("--schema", action="store_true", help="print the JSON Schema of the configuration")
    what.add_argument("--reference", action="store_true", help="print the reference of the configuration as Markdown")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what was asked for and return the exit code: 0, or 2 for a configuration that is not valid."""
    from gpu_launcher.settings.load import SettingsError, load_settings
    from gpu_launcher.settings.reference import reference
    from gpu_launcher.settings.schema import settings_schema

    if args.schema:
        print(json.dumps(settings_schema(), indent=2))
        return 0
    if args.reference:
        print(reference(), end="")
        return 0
    try:
        settings = load_settings(args.config or {})
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    print(settings.hash if args.hash else json.dumps(json.loads(settings.document), indent=2, sort_keys=True))
    return 0
