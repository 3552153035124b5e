"""The plan in the hub's database, so that a restarted hub still knows what its servers are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpu_launcher.domain.plan import PodPlan
from gpu_launcher.domain.resources import Resources

PLAN = "gpu_launcher"
"""Where a spawner's saved state holds the plan."""

_VERSION = 1


def dump_plan(plan: PodPlan) -> dict[str, Any]:
    """Return the parts of a plan that outlive its pod's creation, as JSON, with the version of this form."""
    return {
        "version": _VERSION,
        "profile": plan.profile_id,
        "pool": plan.pool_id,
        "image": plan.image,
        "resources": list(plan.resources),
        "shm": plan.shm,
        "start_timeout": plan.start_timeout_s,
        "labels": dict(plan.labels),
        "annotations": dict(plan.annotations),
    }


def load_plan(state: object) -> PodPlan | None:
    """Return the plan of a saved state; None for nothing, for another version and for anything malformed.

    A hub that knows less about a running server is better than one that does not start.
    """
    if not isinstance(state, Mapping) or state.get("version") != _VERSION:
        return None
    try:
        return PodPlan(
            profile_id=str(state["profile"]),
            pool_id=str(state["pool"]),
            image=state["image"],
            resources=Resources(*(int(amount) for amount in state["resources"])),
            shm=int(state["shm"]),
            start_timeout_s=int(state["start_timeout"]),
            labels=_texts(state["labels"]),
            annotations=_texts(state["annotations"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _texts(given: Any) -> dict[str, str]:
    return {str(key): str(value) for key, value in given.items()}
