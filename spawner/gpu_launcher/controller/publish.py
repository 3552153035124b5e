"""The state's way into its ConfigMap: on every change, and often enough that its age says whether we live."""

from __future__ import annotations

import logging

from gpu_launcher.cluster.api import KubeApi
from gpu_launcher.cluster.errors import Forbidden, KubeError, NotFound
from gpu_launcher.cluster.paths import core
from gpu_launcher.cluster.state import PUBLISH_EVERY_S, state_document
from gpu_launcher.domain.pool_state import PublishedState

log = logging.getLogger(__name__)

FIELD_MANAGER = "gpu-launcher-controller"


class Publisher:
    """Writes one ConfigMap by server-side apply; a failure is logged once for each cause and tried again."""

    def __init__(self, api: KubeApi, namespace: str, name: str) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._problem = ""
        self.published: PublishedState | None = None
        """What was written last; None before the first success."""

    def gets_old(self, now: float) -> bool:
        """Return whether the last state must be renewed, changed or not."""
        return self.published is None or now - self.published.observed_at >= PUBLISH_EVERY_S

    def is_news(self, state: PublishedState) -> bool:
        """Return whether the state says something that the last one does not."""
        last = self.published
        return last is None or (state.pools, state.unknown) != (last.pools, last.unknown)

    async def publish(self, state: PublishedState) -> bool:
        """Write the state where that is needed; return whether the cluster has a current one."""
        if not (self.gets_old(state.observed_at) or self.is_news(state)):
            return True
        document = state_document(state, namespace=self._namespace, name=self._name)
        path = core("configmaps", namespace=self._namespace, name=self._name)
        try:
            await self._api.patch(path, document, "apply", field_manager=FIELD_MANAGER, force=True)
        except KubeError as error:
            self._failed(error)
            return False
        if self._problem:
            log.info("state is published again configmap=%s/%s", self._namespace, self._name)
        self._problem = ""
        if self.published is None or state.unknown != self.published.unknown:
            log.info("publishing pools=%d unknown=%s", len(state.pools), ",".join(state.unknown) or "nothing")
        self.published = state
        return True

    def _failed(self, error: KubeError) -> None:
        problem = f"{error.status} {error.reason}"
        if problem == self._problem:
            return
        self._problem = problem
        # The role names this one object, so a deleted one cannot be made again from here.
        missing = isinstance(error, NotFound | Forbidden)
        remedy = "; `helm upgrade` makes the ConfigMap and the role again" if missing else ""
        log.warning(
            "state is not published configmap=%s/%s problem=%s: %s%s",
            self._namespace, self._name, problem, error.message, remedy,
        )  # fmt: skip
