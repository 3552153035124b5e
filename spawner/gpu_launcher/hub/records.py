"""What is left of a start: a log line, metrics, a message to the controller, and a note on its pod where allowed."""

from __future__ import annotations

import os
from typing import Any

import aiohttp
from traitlets import Bool, Unicode, default

from gpu_launcher.domain.start import StartRecord
from gpu_launcher.hub.background import in_background
from gpu_launcher.hub.creation import QuietCreation
from gpu_launcher.telemetry.metrics import metrics
from gpu_launcher.telemetry.records import dump_record, log_line, record_data, record_from

RECORD = "gpu-launcher/start"
"""The annotation of a session's pod that holds the record of its start."""

_STATE = "gpu_launcher_start"
# Fire and forget: a record that is lost costs nothing, a start that waits for the controller does.
_POST_S = 0.3


class RecordedStarts(QuietCreation):
    """KubeSpawner that leaves one record of each start."""

    controller_url = Unicode(
        config=True,
        help="""
        Where the controller takes records of starts, such as ``http://gpu-launcher-controller``; empty sends none.

        Default: ``$GPU_LAUNCHER_CONTROLLER_URL``.
        """,
    )

    annotate_pods = Bool(
        False,
        config=True,
        help="""
        Whether the record of a start that became ready is also written to its pod.

        Needs ``patch pods`` in the hub's namespace: ``rbac.annotatePods`` in the chart.
        """,
    )

    start_record: StartRecord | None = None
    """How the server that runs was started; None if nobody knows."""

    reference = ""

    @default("controller_url")
    def _controller_of_environment(self) -> str:
        return os.environ.get("GPU_LAUNCHER_CONTROLLER_URL", "")

    def get_state(self) -> dict[str, Any]:
        """Return KubeSpawner's state and how the server was started."""
        state: dict[str, Any] = super().get_state()
        if self.start_record is not None:
            state[_STATE] = record_data(self.start_record)
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore KubeSpawner's state and the record; a state without one leaves it unknown."""
        super().load_state(state)
        self.start_record = record_from(state.get(_STATE))

    def clear_state(self) -> None:
        """Forget how the server was started."""
        super().clear_state()
        self.start_record = None

    def keep_record(self, record: StartRecord, pod: str = "") -> None:
        """Tell everybody who counts starts; *pod* is the name of the pod to annotate, "" for none."""
        self.start_record = record
        self.log.info("reference=%s %s", self.reference, log_line(record))
        metrics_of(self).start_ended(record)
        if self.controller_url:
            in_background(self._post(record))
        if self.annotate_pods and pod:
            in_background(self._annotate(record, pod))

    async def _post(self, record: StartRecord) -> None:
        token = os.environ.get("GPU_LAUNCHER_TOKEN", "")
        url = f"{self.controller_url.rstrip('/')}/api/v1/starts"
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_POST_S)) as session,
                session.post(url, json=record_data(record), headers={"Authorization": f"Bearer {token}"}) as answer,
            ):
                if answer.status >= 400:
                    self.log.warning("record of a start not taken by the controller status=%s", answer.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.log.debug("record of a start not sent problem=%s", type(error).__name__)

    async def _annotate(self, record: StartRecord, pod: str) -> None:
        patch = {"metadata": {"annotations": {RECORD: dump_record(record)}}}
        try:
            await self.api.patch_namespaced_pod(pod, self.namespace, patch)
        except Exception as error:
            # The client's own errors hold the pod, which holds the token.
            self.log.warning("record of a start not written to pod=%s problem=%s", pod, type(error).__name__)


def metrics_of(spawner: Any) -> Any:
    """Return the hub's metrics; the profiles' series were created when the hub was configured."""
    return metrics(spawner.offers.by_id)
