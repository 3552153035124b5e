"""What a pod takes of its node's disk, and what it may take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpu_launcher.domain.quantity import parse_bytes


def bytes_below(directory: Path) -> int:
    """Bytes of disk that the files below a directory occupy; files that go away meanwhile count nothing."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except OSError:
                continue
    return total


def ephemeral_limit(spec: Mapping[str, Any]) -> int | None:
    """Bytes of local disk that a pod may take, the sum over its containers; None where one of them has no limit."""
    limits = [(item.get("resources") or {}).get("limits", {}).get("ephemeral-storage") for item in spec["containers"]]
    if not all(limits):
        return None
    return sum(parse_bytes(limit) for limit in limits)


def exceeds(spec: Mapping[str, Any], used: int) -> str | None:
    """The kubelet's words for a pod that takes more than it may, None for one that does not."""
    limit = ephemeral_limit(spec)
    if limit is None or used <= limit:
        return None
    # The kubelet writes a quantity; binary units are what people give.
    shown = f"{limit // 2**30}Gi" if limit % 2**30 == 0 else f"{limit // 2**20}Mi" if limit % 2**20 == 0 else str(limit)
    return f"Pod ephemeral local storage usage exceeds the total limit of containers {shown}. "
