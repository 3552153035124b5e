"""How long a cold start takes before anything was measured here, part by part, and what would shorten it.

The figures are published ones for Karpenter on AWS in 2026; a site's own measurements replace them once there are any.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpu_launcher.domain.policy import ClusterPolicy
from gpu_launcher.domain.profile import Image

# NodeClaim to Ready: 36-58 s on stock images, 45 s after tuning. Too short and the page promises what it cannot keep.
BOOT_S = 45
# The device plugin with the driver in the machine's image: seconds. The GPU operator installing it: minutes.
GPU_DRIVER_S = 15
# Unpacked bytes per second: 15-20 GB images take 4-6 min, most of it unpacking.
PULL_BYTES_PER_S = 60_000_000
# Parallel pull and unpack is published as 14-50 % faster; the middle of it.
PARALLEL_PULL_PART = 0.7
# JupyterLab from container start to its first answer.
SERVER_S = 5


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of a start; ``seconds`` is None where it cannot be known."""

    name: str
    seconds: int | None


@dataclass(frozen=True, slots=True)
class ColdStart:
    """The parts of a start for which a machine has to come."""

    stages: tuple[Stage, ...]

    @property
    def seconds(self) -> int:
        """All known parts together."""
        return sum(stage.seconds or 0 for stage in self.stages)

    @property
    def complete(self) -> bool:
        """Whether every part is known."""
        return all(stage.seconds is not None for stage in self.stages)


def cold_start(gpus: int, image: Image | None, policy: ClusterPolicy) -> ColdStart:
    """Return the estimate for a session with that many GPUs and that image (None: the hub's, of unknown size)."""
    stages = [Stage("boot", BOOT_S)]
    if gpus:
        stages.append(Stage("GPU driver", GPU_DRIVER_S))
    stages.append(Stage("image", _pull_s(image, policy)))
    stages.append(Stage("server", SERVER_S))
    return ColdStart(tuple(stages))


def shortening(image: Image | None, policy: ClusterPolicy) -> tuple[str, ...]:
    """Return what would shorten the start, the largest saving first; empty where the image hardly matters."""
    pull = _pull_s(image, policy)
    if not pull or pull < 10 or image is None or image.bytes is None:
        return ()
    advice = [f"a node disk from a snapshot that holds the image (cluster.disk_snapshot) saves about {in_words(pull)}"]
    if not policy.parallel_pull:
        saved = round(pull * (1 - PARALLEL_PULL_PART))
        advice.append(f"parallel pull (cluster.parallel_pull) saves about {in_words(saved)}")
    each = round(1_000_000_000 / PULL_BYTES_PER_S * (PARALLEL_PULL_PART if policy.parallel_pull else 1))
    advice.append(f"every GB less of {image.bytes / 1e9:.1f} GB in the image saves about {in_words(each)}")
    return tuple(advice)


def in_words(seconds: float) -> str:
    """Return a wait as people say it: ``"6 s"``, ``"50 s"``, ``"2 min"``, ``"2.5 min"``."""
    if seconds < 10:
        return f"{max(1, round(seconds))} s"
    if seconds < 90:
        return f"{int(seconds + 5) // 10 * 10} s"
    return f"{round(seconds / 30) / 2:g} min"


def _pull_s(image: Image | None, policy: ClusterPolicy) -> int | None:
    if policy.disk_snapshot:
        return 0
    if image is None or image.bytes is None:
        return None
    return round(image.bytes / PULL_BYTES_PER_S * (PARALLEL_PULL_PART if policy.parallel_pull else 1))
