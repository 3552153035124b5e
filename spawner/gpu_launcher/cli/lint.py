"""``gpu-launcher lint``: what a configuration will do, and what is wrong with it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "lint",
        help="say which machines serve each profile, at what price and wait, and what is impossible",
        description="Exit code 0: every profile can start; 1: at least one cannot; 2: the configuration is not valid.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings as YAML or JSON (default: the defaults)")
    parser.add_argument("--json", action="store_true", help="print data for machines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the report and return the exit code: 0 fine, 1 with errors, 2 for a configuration that is not valid."""
    from gpu_launcher.explain.lint import document_findings, lint
    from gpu_launcher.explain.report import as_data, as_text, findings_data
    from gpu_launcher.settings.catalogue import load_catalogue
    from gpu_launcher.settings.load import SettingsError, load_settings

    try:
        settings = load_settings(args.config or {})
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    catalogue = load_catalogue()
    reports = lint(settings.profiles, catalogue, settings.cluster, settings.prices, settings.limits)
    findings = document_findings(catalogue, settings.cluster, settings.prices)
    failed = any(report.failed for report in reports)
    if args.json:
        data = {"profiles": as_data(reports), "findings": findings_data(findings)}
        print(json.dumps({"version": 1, "config_hash": settings.hash, "ok": not failed, **data}))
    else:
        print(as_text(reports, findings))
    return 1 if failed else 0
