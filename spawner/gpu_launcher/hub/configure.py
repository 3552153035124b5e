"""The one public entry for a hub: settings in, a hub with GPU profiles out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from logging import INFO, WARNING
from pathlib import Path
from typing import Any

from traitlets.log import get_logger

from gpu_launcher.explain.findings import Finding, Level
from gpu_launcher.explain.lint import document_findings, lint
from gpu_launcher.explain.prices import dollars
from gpu_launcher.explain.report import wait_words
from gpu_launcher.hub.conflicts import refuse_second_call, refuse_second_list, spawner_is_ours
from gpu_launcher.hub.pages import TEMPLATES
from gpu_launcher.settings.catalogue import load_catalogue
from gpu_launcher.settings.load import Settings, load_settings
from gpu_launcher.telemetry.metrics import metrics

_TYPES_LOGGED = 6


def configure(
    c: Any,
    *,
    profiles: Sequence[Mapping[str, Any]] | None = None,
    headroom: Mapping[str, Any] | None = None,
    culling: Mapping[str, Any] | None = None,
    prices: Mapping[str, Any] | None = None,
    cluster: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
    starts: Mapping[str, Any] | None = None,
    file: str | Path | None = None,
) -> None:
    """Make a JupyterHub configuration start GPU profiles; to be called once in ``jupyterhub_config.py``.

    The sections are those of the YAML document, or *file* names that document; None leaves a section at its default.
    ``c.KubeSpawner`` configuration and hooks keep working. The site's own templates win over the launcher's pages of a
    start; a list that is assigned to ``c.JupyterHub.template_paths`` afterwards replaces the pages by JupyterHub's.
    Raises SettingsError with every problem of the document, and ConfigurationConflict where the hub's configuration
    contradicts it; the hub does not start then. A profile that no machine can serve is only shown as unavailable, with
    a warning in the log.
    """
    sections = {
        "profiles": profiles, "headroom": headroom, "culling": culling, "prices": prices, "cluster": cluster,
        "limits": limits, "starts": starts,
    }  # fmt: skip
    settings = _settings({name: section for name, section in sections.items() if section is not None}, file)
    document = json.loads(settings.document)
    refuse_second_list(c)
    refuse_second_call(c.GpuSpawner.get("settings") or {}, document)
    if not spawner_is_ours(c.JupyterHub.get("spawner_class")):
        c.JupyterHub.spawner_class = "gpu_launcher.hub.spawner.GpuSpawner"
    c.GpuSpawner.settings = document
    _unthrottle(c)
    _add_pages(c)
    _report(settings)


def _settings(sections: Mapping[str, Any], file: str | Path | None) -> Settings:
    if file is None:
        return load_settings({"version": 1, **sections})
    if sections:
        raise ValueError(
            f"configure(file={str(file)!r}) and configure({', '.join(sections)}) both give settings; use one of them"
        )
    return load_settings(Path(file))


def _unthrottle(c: Any) -> None:
    """Lift the hub's limit on pending starts: a few cold GPU starts would answer 429 to everybody, CPU users too.

    The spawner limits what the limit was for, pod creations at the same time, itself.
    """
    if "concurrent_spawn_limit" not in c.JupyterHub:
        c.JupyterHub.concurrent_spawn_limit = 0
    elif c.JupyterHub.concurrent_spawn_limit:
        get_logger().warning(
            "c.JupyterHub.concurrent_spawn_limit=%s: while so many starts wait for a machine, every other start is "
            "refused; 0 leaves the limit to GpuSpawner.concurrent_creates",
            c.JupyterHub.concurrent_spawn_limit,
        )


def _add_pages(c: Any) -> None:
    """Let the hub find our pages of a start: before its own, after those of the site."""
    pages, paths = str(TEMPLATES), c.JupyterHub.template_paths
    if isinstance(paths, list):
        if pages not in paths:
            paths.append(pages)
        return
    # Nothing assigned: what the site has inserted so far stays in front, and the hub's default comes last.
    inserted = [path for _, path in paths.to_dict().get("inserts", ())]
    if pages not in inserted:
        paths.insert(len(inserted), pages)


def _report(settings: Settings) -> None:
    """Log what each profile will do, and what is wrong with it: the same words as ``gpu-launcher lint``."""
    log, catalogue = get_logger(), load_catalogue()
    # Every series is there from the start, at 0: what has not happened yet can be told from what is not measured.
    metrics(profile.id for profile in settings.profiles)
    for finding in document_findings(catalogue, settings.cluster, settings.prices):
        _log_finding("document", finding)
    for report in lint(settings.profiles, catalogue, settings.cluster, settings.prices, settings.limits):
        profile = report.profile.id
        if report.pool:
            types = ",".join(machine.name for machine in report.machines[:_TYPES_LOGGED]) or "unknown"
            usd = dollars(report.machines[0].price.of(report.profile.capacity)) if report.machines else "unknown"
            log.info(
                "profile=%s pool=%s machines=%s price=%s cold_start=%r",
                profile, report.pool.id, types, usd, wait_words(report.cold_start),
            )  # fmt: skip
        for finding in report.findings:
            _log_finding(f"profile={profile}", finding)
        for advice in report.shortening:
            log.info("profile=%s shorter_start: %s", profile, advice)


def _log_finding(where: str, finding: Finding) -> None:
    level = INFO if finding.level is Level.NOTE else WARNING
    get_logger().log(level, "%s %s=%s: %s", where, finding.level, finding.code, finding.text)
