"""Helm on our chart: run it, lint, render, and read what comes out."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "gpu-launcher"
VALUES = Path(__file__).parent / "values"
NAMESPACE = "jupyter"
RELEASE = "gpu-launcher"

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Helm:
    """The Helm binary on our chart. ``values`` is a file's name in tests/chart/values; ``sets`` are --set arguments."""

    binary: Path
    home: Path
    rendered: dict[tuple[str | None, tuple[str, ...]], list[Manifest]] = field(default_factory=dict)

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **{f"HELM_{kind}_HOME": str(self.home) for kind in ("CACHE", "CONFIG", "DATA")}}
        return subprocess.run([str(self.binary), *args], capture_output=True, text=True, check=False, env=environment)

    def lint(self, *sets: str, values: str | None = None) -> subprocess.CompletedProcess[str]:
        return self.run("lint", "--strict", str(CHART), *_arguments(values, sets))

    def template(self, *sets: str, values: str | None = None) -> list[Manifest]:
        """Every object that these values render, hooks included. Each set of values is rendered once."""
        key = (values, sets)
        if key not in self.rendered:
            done = self.run("template", RELEASE, str(CHART), "--namespace", NAMESPACE, *_arguments(values, sets))
            assert done.returncode == 0, done.stderr
            self.rendered[key] = [document for document in yaml.safe_load_all(done.stdout) if document]
        return self.rendered[key]

    def refusal(self, *sets: str, values: str | None = None, schema: bool = True) -> str:
        """The words with which these values are refused. ``schema=False``: by the templates alone."""
        skip = () if schema else ("--skip-schema-validation",)
        done = self.run("template", RELEASE, str(CHART), *skip, *_arguments(values, sets))
        assert done.returncode != 0, "these values were accepted"
        return done.stderr


def _arguments(values: str | None, sets: tuple[str, ...]) -> list[str]:
    files = [] if values is None else ["--values", str(VALUES / f"{values}.yaml")]
    return [*files, *(part for item in sets for part in ("--set-json", item))]
