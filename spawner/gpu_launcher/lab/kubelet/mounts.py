"""Where a container's paths lie on this machine: there are no containers here, so mount paths are rewritten in text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TOKEN_DIRECTORY = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105  # a path


def mount_table(container: Mapping[str, Any], volumes: Mapping[str, Path]) -> dict[str, Path]:
    """Mount path -> path on this machine for one container.

    Mounts of volumes that are not in `volumes` are left out. A `subPath` that does not exist becomes a directory.
    """
    table: dict[str, Path] = {}
    for mount in container.get("volumeMounts") or ():
        source = volumes.get(mount["name"])
        if source is None:
            continue
        if sub := mount.get("subPath"):
            source = source / sub
            if not source.exists():
                source.mkdir(parents=True)
        table[mount["mountPath"].rstrip("/") or "/"] = source
    # Two memory-backed directories of the same name exist on every machine; programs open them without asking us.
    return {path: source for path, source in table.items() if path not in ("/", "/dev/shm", "/tmp")}  # noqa: S108


def rewrite(text: str, table: Mapping[str, Path]) -> str:
    """`text` with every mount path replaced; `/home/jovyan` is not found in `/home/jovyan2` or `/x/home/jovyan`."""
    if not table:
        return text
    paths = sorted(table, key=len, reverse=True)
    pattern = rf"(?<![\w.\-/])({'|'.join(map(re.escape, paths))})(?![\w\-]|\.\w)"
    return re.sub(pattern, lambda match: str(table[match.group(1)]), text)


def rewrite_address(text: str, ip: str) -> str:
    """`text` with the address of all interfaces replaced by the pod's own: pods share this machine's ports."""
    return re.sub(r"(?<![\d.])0\.0\.0\.0(?![\d.])", ip, text)


def home_directory(table: Mapping[str, Path], working_dir: str | None, fallback: Path) -> Path:
    """HOME of a container: its working directory's or first `/home/...` mount, else `fallback`."""
    if working_dir and working_dir.rstrip("/") in table:
        return table[working_dir.rstrip("/")]
    homes = sorted(path for path in table if path.startswith("/home/"))
    return table[homes[0]] if homes else fallback


def expand(text: str, env: Mapping[str, str]) -> str:
    """`text` with `$(NAME)` replaced as Kubernetes does: unknown names stay, `$$(NAME)` is the escape."""

    def value(match: re.Match[str]) -> str:
        if match.group(0).startswith("$$"):
            return match.group(0)[1:]
        return env.get(match.group(1), match.group(0))

    return re.sub(r"\$?\$\(([^()\s]+)\)", value, text)


def command_words(container: Mapping[str, Any], default: Sequence[str]) -> list[str]:
    """The words a container runs: command and args, or the image's `default` where these name no program.

    Images start with an init (`tini -g --`) that passes its words on; it is taken off.
    """
    words = [*(container.get("command") or ()), *(container.get("args") or ())]
    while words and words[0].rpartition("/")[2] in ("tini", "-g", "--"):
        words.pop(0)
    if not words or words[0].startswith("-"):
        words = [*default, *words]
    return words
