"""Where the lab keeps its files: one directory per lab, one cache for everything that is built once."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


class LabError(Exception):
    """The lab cannot do what was asked; the message names the reason and the next step."""


def cache_root() -> Path:
    """The user's cache of Go modules, toolchain and built servers. Safe to delete: it is only rebuilt."""
    return _base("XDG_CACHE_HOME", ".cache") / "gpu-launcher"


def labs_root() -> Path:
    """The directory that holds one directory per lab."""
    return _base("XDG_STATE_HOME", ".local/state") / "gpu-launcher" / "labs"


def _base(variable: str, fallback: str) -> Path:
    # The XDG rules: a relative path there is ignored.
    configured = Path(os.environ.get(variable, ""))
    return configured if configured.is_absolute() else Path.home() / fallback


@dataclass(frozen=True, slots=True)
class LabPaths:
    """The files of one lab. Nothing that a lab writes lies outside ``directory`` and the cache."""

    directory: Path

    @classmethod
    def named(cls, name: str) -> LabPaths:
        """The paths of the lab ``name``. Raises ``LabError`` for a name that could leave the root."""
        if not _NAME.fullmatch(name):
            raise LabError(
                f"--name {name!r}: use 1 to 40 of a-z, 0-9 and '-', starting and ending with a letter or digit"
            )
        return cls(labs_root() / name)

    @property
    def name(self) -> str:
        """The lab's name, the last part of its directory."""
        return self.directory.name

    @property
    def state(self) -> Path:
        """``lab.json``: processes, ports, URLs and the stage, replaced as a whole by the supervisor."""
        return self.directory / "lab.json"

    @property
    def settings(self) -> Path:
        """The ``LabSettings`` that this lab was started with."""
        return self.directory / "settings.json"

    @property
    def faults(self) -> Path:
        """The faults switched on right now, replaced as a whole from Python."""
        return self.directory / "faults.json"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.directory / "kubeconfig"

    @property
    def instance_types(self) -> Path:
        """The instance types that Karpenter may launch, in the KWOK provider's JSON form."""
        return self.directory / "instance_types.json"

    @property
    def logs(self) -> Path:
        """One log file per process."""
        return self.directory / "logs"

    def log(self, process: str) -> Path:
        """The log file of ``process``."""
        return self.logs / f"{process}.log"

    @property
    def pki(self) -> Path:
        """Keys, certificates and the token file; readable by the owner only."""
        return self.directory / "pki"

    @property
    def etcd(self) -> Path:
        """The database."""
        return self.directory / "etcd"

    @property
    def pods(self) -> Path:
        """One directory per pod that runs as real processes."""
        return self.directory / "pods"

    @property
    def volumes(self) -> Path:
        """One directory per PersistentVolume."""
        return self.directory / "volumes"

    @property
    def helm(self) -> Path:
        """Helm's own cache, configuration and data."""
        return self.directory / "helm"

    @property
    def tmp(self) -> Path:
        """Temporary files of the lab's processes."""
        return self.directory / "tmp"

    def create(self) -> None:
        """Make the directory and its fixed parts, readable by the owner only."""
        for path in (self.directory, self.logs, self.pki, self.etcd, self.pods, self.volumes, self.helm, self.tmp):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace ``path`` as a whole, so that a reader never sees half a file."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    part.replace(path)


def write_json(path: Path, document: Any) -> None:
    """Replace ``path`` by ``document`` as JSON."""
    write_atomically(path, json.dumps(document, indent=1, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    """The document in ``path``; None when the file is missing or not JSON (half-deleted directories are normal)."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
