"""How much had to be brought for a start that has its node."""

from __future__ import annotations

from gpu_launcher.domain.stage import StartKind
from gpu_launcher.domain.start import StartSnapshot
from gpu_launcher.domain.views import NodeView, PodView
from gpu_launcher.explain.containers import has_image, notebook_of
from gpu_launcher.explain.matching import claim_on

# From the scheduler's decision to a running container, where nothing has to be pulled. No image of a notebook is
# pulled and unpacked in that time.
_NOTHING_PULLED_S = 5.0


def kind_of(snapshot: StartSnapshot, pod: PodView, node: NodeView | None) -> StartKind:
    """Return cold for a node that came after the user asked, lukewarm where its image had to be pulled, else warm."""
    came = _came_at(snapshot, node)
    if came is None:
        return StartKind.UNKNOWN
    if came >= snapshot.asked_at:
        return StartKind.COLD
    present = _image_was_there(snapshot, pod, node)
    if present is None:
        return StartKind.UNKNOWN
    return StartKind.WARM if present else StartKind.LUKEWARM


def _came_at(snapshot: StartSnapshot, node: NodeView | None) -> float | None:
    """When the node was of use for the first time; None if unknown."""
    if node is None or node.created_at is None:
        return None
    claim = claim_on(node, snapshot)
    done = claim.conditions.get("Initialized") if claim is not None else None
    at = done.since if done is not None and done.true and done.since is not None else node.created_at
    return max(at, node.created_at)


def _image_was_there(snapshot: StartSnapshot, pod: PodView, node: NodeView | None) -> bool | None:
    image = pod.images[0] if pod.images else ""
    said = [
        event for event in snapshot.events if event.reason in ("Pulling", "Pulled") and _about(event.message, image)
    ]
    if any("already present" not in event.message for event in said):
        return False
    if said:
        return True
    notebook, scheduled = notebook_of(pod), pod.conditions.get("PodScheduled")
    if notebook is not None and notebook.started_at is not None and scheduled is not None and scheduled.since:
        return True if notebook.started_at - scheduled.since <= _NOTHING_PULLED_S else None
    return has_image(node, image) if node is not None else None


def _about(message: str, image: str) -> bool:
    return not image or f'"{image}"' in message
