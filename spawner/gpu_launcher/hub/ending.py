"""The end of a session as one event in JupyterHub's event log."""

from __future__ import annotations

import time
from typing import Any

from gpu_launcher.cluster.parse import pod_view
from gpu_launcher.domain.plan import PodPlan
from gpu_launcher.domain.stage import StartOutcome
from gpu_launcher.domain.start import StartRecord
from gpu_launcher.domain.views import PodView
from gpu_launcher.hub.records import RecordedStarts
from gpu_launcher.hub.usage import groups_of
from gpu_launcher.planning.placement import GROUPS
from gpu_launcher.telemetry.session_event import SCHEMA_ID, EndReason, SessionEnd, event, schema

END_REASON = "gpu-launcher/end-reason"
BUSY = "gpu-launcher/busy-seconds"
IDLE = "gpu-launcher/idle-seconds"
UNKNOWN = "gpu-launcher/unknown-seconds"
"""Annotations by which the controller says what it knows of a session; absent is unknown."""

_KNOWN_IN: set[int] = set()


class EndedSessions(RecordedStarts):
    """KubeSpawner that leaves one event of each session that ended."""

    plan: PodPlan | None

    _stopped = False
    _last_pod: PodView | None = None

    async def stop(self, now: bool = False) -> None:
        """Take the pod away; what it says about itself is read before."""
        self._stopped = True
        self._remember()
        await super().stop(now)

    async def poll(self) -> int | None:
        """Return what KubeSpawner does; a pod that is about to be found dead is remembered."""
        self._remember()
        status: int | None = await super().poll()
        return status

    def clear_state(self) -> None:
        """Forget the session that ended."""
        super().clear_state()
        self._stopped, self._last_pod = False, None

    def run_post_stop_hook(self) -> Any:
        """Emit the event, then run the site's hook; a log that cannot be written is no reason not to stop."""
        try:
            self._emit()
        except Exception:
            self.log.exception("end of session not logged server=%r", self._log_name)
        return super().run_post_stop_hook()

    def _remember(self) -> None:
        pods = self.pod_reflector.pods if self.pod_reflector else {}
        self._last_pod = pod_view(pods.get(f"{self.namespace}/{self.pod_name}")) or self._last_pod

    def _emit(self) -> None:
        pod, start = self._last_pod, self.start_record
        if start is None or start.outcome is not StartOutcome.READY:
            return
        annotations = pod.annotations if pod else {}
        told = annotations.get(END_REASON, "")
        eventlog = self.user.settings["eventlog"]
        if id(eventlog) not in _KNOWN_IN:
            eventlog.register_event_schema(schema())
            _KNOWN_IN.add(id(eventlog))
        end = SessionEnd(
            user=self.user.name,
            server=self.name,
            groups=groups_of(annotations.get(GROUPS)),
            began_at=start.began_at + start.seconds,
            ended_at=time.time(),
            # What the controller wrote wins over what the hub has seen.
            reason=EndReason(told) if told in set(EndReason) else _seen(pod, self._stopped),
            profile_id=start.profile_id,
            pool_id=start.pool_id,
            gpus=self.plan.resources.gpus if self.plan else None,
            capacity_type=start.capacity_type,
            zone=start.zone,
            instance_type=start.instance_type,
            usd_per_hour=start.usd_per_hour,
            price_source=self._price_source(start),
            start=start,
            busy_s=_seconds(annotations.get(BUSY)),
            idle_s=_seconds(annotations.get(IDLE)),
            unknown_s=_seconds(annotations.get(UNKNOWN)),
        )
        eventlog.emit(schema_id=SCHEMA_ID, data=event(end))

    def _price_source(self, start: StartRecord) -> str:
        if start.usd_per_hour is None:
            return ""
        if start.capacity_type == "spot":
            return "spot-estimate"
        return "override" if start.instance_type in self.offers.settings.prices.overrides else "list"


def _seen(pod: PodView | None, stopped: bool) -> EndReason:
    """Why the session ended, as far as its pod tells."""
    notebook = pod.containers[0] if pod and pod.containers else None
    if pod is not None and pod.reason == "Evicted":
        return EndReason.EVICTED
    if notebook is not None and notebook.state == "terminated":
        return EndReason.CRASHED if notebook.exit_code else EndReason.STOPPED
    return EndReason.STOPPED if stopped else EndReason.LOST


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text) if text else None
    except ValueError:
        return None
    return seconds if seconds is not None and 0 <= seconds < 1e9 else None
