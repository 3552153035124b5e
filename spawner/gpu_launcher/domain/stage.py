"""The parts of a start, in the order in which they come."""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """What a start is waiting for. The order of definition is the order in which stages can follow each other."""

    QUEUED = "queued"
    """Nothing has looked at the pod yet, or it does not exist yet."""
    FINDING_CAPACITY = "finding_capacity"
    """No machine has room; the cloud is asked for one."""
    LAUNCHING = "launching"
    """A machine was asked for and the cloud has not confirmed it."""
    BOOTING = "booting"
    """The machine runs and is not yet a usable node."""
    GPU_DRIVER = "gpu_driver"
    """The node is there and does not offer its GPUs yet."""
    SCHEDULING = "scheduling"
    """A node could take the pod, and the scheduler has not put it there yet."""
    VOLUME = "volume"
    """The pod has its node and waits for a volume."""
    PULLING_IMAGE = "pulling_image"
    STARTING = "starting"
    """The container is being created or has just started."""
    SERVER_ANSWERING = "server_answering"
    """The container runs; its server has not answered yet."""

    @property
    def place(self) -> int:
        """0 for the first stage, then ascending."""
        return _PLACES[self]


_PLACES = {stage: place for place, stage in enumerate(Stage)}


class StartKind(StrEnum):
    """How much had to be brought for a start."""

    WARM = "warm"
    """A ready slot existed, the image on its node."""
    LUKEWARM = "lukewarm"
    """The node was there, the image was not."""
    COLD = "cold"
    """A node had to come."""
    UNKNOWN = "unknown"


class StartOutcome(StrEnum):
    """How a start ended."""

    READY = "ready"
    REFUSED = "refused"
    """With a reason and a next step; never the hub's fault."""
    FAILED = "failed"
    """A defect: of the hub, of a hook, of the configuration."""
    STOPPED = "stopped"
    """The user changed their mind."""
    LOST = "lost"
    """The hub stopped while the start was under way, so its end was not seen."""
