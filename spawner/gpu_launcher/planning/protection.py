"""Protection of a session from being moved or ended by the autoscaler."""

from __future__ import annotations

from gpu_launcher.domain.duration import format_duration
from gpu_launcher.domain.profile import ProfileLimits

DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"


def protection_of(limits: ProfileLimits) -> str:
    """Return the value of the do-not-disrupt annotation: the maximum age as a Go duration, or ``"true"`` without one.

    Written once and never renewed: Karpenter counts it from the pod's start, and every change makes an event.
    """
    return "true" if limits.max_age_s is None else format_duration(limits.max_age_s)
