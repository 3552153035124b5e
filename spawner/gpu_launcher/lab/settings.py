"""What a lab imitates: boot and pull times, device plugins, disks, zones, spot prices. All delays are settings."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_launcher.lab.paths import LabError, read_json, write_json

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(kB|MB|GB|TB)?/s")
_DECIMAL = {"": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_PERCENT = re.compile(r"([+-]?[0-9]+(?:\.[0-9]+)?)%")
_GIB = re.compile(r"([0-9]+)(?:Gi)?")


@dataclass(frozen=True, slots=True)
class LabSettings:
    """The settings of one lab: seconds, bytes and bytes per second unless a name says otherwise."""

    boot_s: float = 45.0
    """From launch to a registered node. 45 s is what a GPU instance on EC2 needs."""
    device_plugin_s: float = 10.0
    """From a Ready node to an advertised ``nvidia.com/gpu``."""
    pull_rate: float = 200e6
    """Image pull in bytes per second, unpacking included."""
    default_image_bytes: int = 2_000_000_000
    """Size of an image that ``images`` does not list."""
    images: Mapping[str, int] = field(default_factory=dict)
    """Image reference -> compressed bytes."""
    allocatable_skew: float = 0.0
    """Real allocatable memory and CPU against the catalogue: -0.02 is 2 % less than promised."""
    disk_gib: int = 200
    """A node's disk."""
    zones: tuple[str, ...] = ("us-east-1a", "us-east-1b", "us-east-1c")
    spot_ratio: float = 0.4
    """Spot price over on-demand price."""
    ice_memory_s: float = 180.0
    """How long Karpenter avoids an offering after an insufficient-capacity error, as on AWS."""
    attach_s: float = 3.0
    """To attach or detach a disk, as the cloud needs for it."""
    detach_late_s: float = 360.0
    """How long a lost node keeps its volumes: Kubernetes forces a detach after 6 minutes."""
    batch_idle_s: float = 1.0
    """Karpenter's BATCH_IDLE_DURATION. Longer joins more pods into one decision, shorter starts sooner."""
    scheduler_backoff_s: float = 10.0
    """kube-scheduler's longest back-off for one pod; 10 s is the stock value."""
    karpenter_log_level: str = "info"

    def __post_init__(self) -> None:
        for name in ("boot_s", "device_plugin_s", "ice_memory_s", "attach_s", "detach_late_s", "batch_idle_s"):
            _check(getattr(self, name) >= 0, name, getattr(self, name), "a time of 0 s or more")
        _check(self.pull_rate > 0, "pull_rate", self.pull_rate, "more than 0 bytes per second")
        _check(-0.5 <= self.allocatable_skew <= 0.5, "allocatable_skew", self.allocatable_skew, "-50% to 50%")
        _check(0 < self.spot_ratio <= 1, "spot_ratio", self.spot_ratio, "more than 0, at most 1")
        _check(self.disk_gib >= 20, "disk_gib", self.disk_gib, "20 Gi or more")
        _check(self.scheduler_backoff_s >= 1, "scheduler_backoff_s", self.scheduler_backoff_s, "1 s or more")
        _check(len(self.zones) > 0, "zones", self.zones, "at least one zone")
        level = self.karpenter_log_level
        _check(level in ("debug", "info", "error"), "karpenter_log_level", level, "debug, info or error")

    @classmethod
    def fast(cls, **changes: Any) -> LabSettings:
        """Settings for tests: every delay is there, but short."""
        quick: dict[str, Any] = {
            "boot_s": 2.0,
            "device_plugin_s": 0.5,
            "pull_rate": 20e9,
            # Longer than Karpenter's 10 s between two looks at a pending pod: shorter, and it asks for spot for ever.
            "ice_memory_s": 15.0,
            "attach_s": 0.2,
            "detach_late_s": 5.0,
            "scheduler_backoff_s": 2.0,
        }
        return cls(**(quick | changes))

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> LabSettings:
        """Settings out of a JSON object. Raises ``LabError`` for an unknown key."""
        known = {item.name for item in dataclasses.fields(cls)}
        unknown = sorted(set(document) - known)
        if unknown:
            raise LabError(f"lab settings: unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}")
        values = dict(document)
        if "zones" in values:
            values["zones"] = tuple(values["zones"])
        return cls(**values)

    def document(self) -> dict[str, Any]:
        """The settings as a JSON object; ``from_document`` reads it back."""
        return dataclasses.asdict(self) | {"zones": list(self.zones), "images": dict(self.images)}

    @classmethod
    def read(cls, path: Path) -> LabSettings:
        """Settings out of a file that ``write`` made. Raises ``LabError`` when it is missing or broken."""
        document = read_json(path)
        if not isinstance(document, dict):
            raise LabError(f"{path}: no lab settings there; start the lab with `gpu-launcher lab up`")
        return cls.from_document(document)

    def write(self, path: Path) -> None:
        """Replace ``path`` by these settings."""
        write_json(path, self.document())


def parse_seconds(text: str) -> float:
    """Seconds out of ``45s``, ``1.5m``, ``500ms`` or ``45``. Raises ``ValueError`` that shows the form."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r}: write a time such as 45s, 500ms or 2m")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def parse_rate(text: str) -> float:
    """Bytes per second out of ``200MB/s``. Raises ``ValueError`` that shows the form."""
    match = _RATE.fullmatch(text if text.endswith("/s") else f"{text}/s")
    if match is None or float(match[1]) == 0:
        raise ValueError(f"{text!r}: write a rate such as 200MB/s or 1.5GB/s")
    return float(match[1]) * _DECIMAL[match[2] or ""]


def parse_percent(text: str) -> float:
    """A share out of ``-2%`` (-0.02). Raises ``ValueError`` that shows the form."""
    match = _PERCENT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r}: write a percentage such as -2% or 2%")
    return float(match[1]) / 100


def parse_gib(text: str) -> int:
    """GiB out of ``200Gi`` or ``200``. Raises ``ValueError`` that shows the form."""
    match = _GIB.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r}: write a disk size such as 200Gi")
    return int(match[1])


def parse_ratio(text: str) -> float:
    """A finite number out of ``0.4``. Raises ``ValueError`` that shows the form."""
    value = float(text) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else math.nan
    if not 0 < value <= 1:
        raise ValueError(f"{text!r}: write a ratio above 0 and at most 1, such as 0.4")
    return value


# Command-line flag -> (field, parser, meaning): the one table that the command line and its help are made of.
FLAGS: Mapping[str, tuple[str, Callable[[str], Any], str]] = {
    "--boot": ("boot_s", parse_seconds, "from launch to a registered node (45s)"),
    "--device-plugin": ("device_plugin_s", parse_seconds, "from a Ready node to an advertised GPU (10s)"),
    "--pull-rate": ("pull_rate", parse_rate, "image pull, unpacking included (200MB/s)"),
    "--allocatable-skew": (
        "allocatable_skew",
        parse_percent,
        "real allocatable against the catalogue, as --allocatable-skew=-2%% (0%%)",
    ),
    "--disk": ("disk_gib", parse_gib, "a node's disk (200Gi)"),
    "--spot-ratio": ("spot_ratio", parse_ratio, "spot price over on-demand price (0.4)"),
    "--ice-memory": ("ice_memory_s", parse_seconds, "how long an offering without capacity is avoided (180s)"),
    "--attach": ("attach_s", parse_seconds, "to attach or detach a disk (3s)"),
    "--detach-late": ("detach_late_s", parse_seconds, "how long a lost node keeps its disks (6m)"),
    "--batch-idle": ("batch_idle_s", parse_seconds, "how long Karpenter waits for more pods before it decides (1s)"),
    "--scheduler-backoff": ("scheduler_backoff_s", parse_seconds, "kube-scheduler's longest back-off for a pod (10s)"),
    "--karpenter-log": ("karpenter_log_level", str, "debug, info or error (info)"),
}


def _check(holds: bool, name: str, value: Any, wanted: str) -> None:
    # A comparison with NaN is false, so NaN is refused too.
    if not holds:
        raise LabError(f"lab settings: {name}={value!r}; use {wanted}")
