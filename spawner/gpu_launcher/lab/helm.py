"""Helm, with everything it writes inside the lab's directory."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from gpu_launcher.lab.paths import LabError, LabPaths

# `helm install --wait` bounds itself; this is for a Helm that hangs.
_TIMEOUT_S = 300.0


async def helm(program: str | Path, paths: LabPaths, *arguments: str, timeout_s: float = _TIMEOUT_S) -> str:
    """What ``helm`` with ``arguments`` prints. Raises ``LabError`` with its own words when it fails."""
    running = await asyncio.create_subprocess_exec(
        str(program),
        *arguments,
        env=environment(paths),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, problem = await asyncio.wait_for(running.communicate(), timeout_s)
    except BaseException:
        if running.returncode is None:
            running.kill()
            await running.wait()
        raise
    if running.returncode != 0:
        said = (problem or out).decode(errors="replace").strip()
        raise LabError(f"helm {' '.join(arguments[:2])} failed: {said}")
    return out.decode(errors="replace")


def environment(paths: LabPaths) -> dict[str, str]:
    """Helm's whole environment: this lab's cluster, and no file of the user's own Helm."""
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(paths.directory),
        "TMPDIR": str(paths.tmp),
        "KUBECONFIG": str(paths.kubeconfig),
        "HELM_CACHE_HOME": str(paths.helm / "cache"),
        "HELM_CONFIG_HOME": str(paths.helm / "config"),
        "HELM_DATA_HOME": str(paths.helm / "data"),
    }
