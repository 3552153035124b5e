"""Interactive GPU sessions for JupyterHub on Kubernetes with Karpenter.

``configure`` and ``GpuSpawner`` are resolved on first use, so that the parts which go into a notebook image
import without JupyterHub and Kubernetes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["GpuSpawner", "__version__", "configure"]

if TYPE_CHECKING:
    from gpu_launcher.hub.configure import configure
    from gpu_launcher.hub.spawner import GpuSpawner


def __getattr__(name: str) -> Any:
    if name == "configure":
        from gpu_launcher.hub.configure import configure

        return configure
    if name == "GpuSpawner":
        from gpu_launcher.hub.spawner import GpuSpawner

        return GpuSpawner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
