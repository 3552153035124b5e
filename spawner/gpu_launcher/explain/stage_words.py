"""One line for each stage: under way, done, still to come."""

from __future__ import annotations

from gpu_launcher.domain.stage import Stage

_NOW = {
    Stage.QUEUED: "Asking for a session",
    Stage.FINDING_CAPACITY: "Asking for capacity",
    Stage.LAUNCHING: "Waiting for the cloud to give a machine",
    Stage.BOOTING: "Waiting for the machine to boot",
    Stage.GPU_DRIVER: "Waiting for the GPU driver",
    Stage.SCHEDULING: "Waiting for a place on a machine",
    Stage.VOLUME: "Attaching your files",
    Stage.PULLING_IMAGE: "Pulling the image",
    Stage.STARTING: "Starting the session",
    Stage.SERVER_ANSWERING: "Waiting for the server to answer",
}
_AHEAD = {
    **_NOW,
    Stage.LAUNCHING: "Getting a machine",
    Stage.BOOTING: "Booting the machine",
    Stage.GPU_DRIVER: "Loading the GPU driver",
    Stage.SCHEDULING: "Placing the session",
    Stage.SERVER_ANSWERING: "Server answers",
}
_DONE = {
    Stage.QUEUED: "Asked for a session",
    Stage.FINDING_CAPACITY: "Asked for capacity",
    Stage.LAUNCHING: "Got a machine",
    Stage.BOOTING: "Machine started",
    Stage.GPU_DRIVER: "GPU ready",
    Stage.SCHEDULING: "Placed",
    Stage.VOLUME: "Files attached",
    Stage.PULLING_IMAGE: "Image pulled",
    Stage.STARTING: "Session started",
    Stage.SERVER_ANSWERING: "Server answers",
}


def now_words(stage: Stage) -> str:
    """Return what is under way, for when a diagnosis says nothing better."""
    return _NOW[stage]


def ahead_words(stage: Stage, image_bytes: int | None = None) -> str:
    """Return what is still to come."""
    if stage is Stage.PULLING_IMAGE and image_bytes:
        return f"{_AHEAD[stage]} ({image_bytes / 1e9:.1f} GB)"
    return _AHEAD[stage]


def done_words(stage: Stage, instance_type: str = "", zone: str = "", capacity_type: str = "") -> str:
    """Return what is over, with what is known of the machine: ``"Machine g5.xlarge started (us-west-2b)"``."""
    if stage is Stage.BOOTING and instance_type:
        return f"Machine {instance_type} started" + (f" ({zone})" if zone else "")
    if stage is Stage.LAUNCHING and capacity_type:
        return f"Got a machine ({capacity_type})"
    return _DONE[stage]
