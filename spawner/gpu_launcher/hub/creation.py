"""Creating Kubernetes objects without telling the log what is in them."""

from __future__ import annotations

import asyncio
import json
from typing import Any, ClassVar

from aiohttp import ClientError
from kubernetes_asyncio.client.rest import ApiException
from kubespawner import KubeSpawner
from traitlets import Integer

from gpu_launcher.domain.outcomes import Refusal, RefusalReason
from gpu_launcher.hub.refusal import StartRefused

_LONGEST = 300
_TRANSIENT = (429, 500, 502, 503, 504)


class CreateFailed(Exception):
    """The cluster did not create an object, and trying again does not help; the message is safe to log."""


def told_by(error: Any, secrets: tuple[str, ...]) -> str:
    """Return what a Kubernetes API error says, in at most 300 characters and without the given secrets.

    The raw body may echo whole fields of the pod (its environment holds the API token), so it is never used as it is.
    """
    try:
        message = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        message = error.reason or "no message"
    text = " ".join(str(message).split())
    for secret in filter(None, secrets):
        text = text.replace(secret, "[hidden]")
    return text if len(text) <= _LONGEST else text[: _LONGEST - 2] + " …"


def secrets_of(manifest: Any) -> tuple[str, ...]:
    """Return what must not be told of a pod or a secret: the values of its environment and its data.

    Values below eight characters are no secrets worth the name, and hiding "1" or "yes" would eat the message.
    """
    spec = getattr(manifest, "spec", None)
    containers = [*(getattr(spec, "containers", None) or []), *(getattr(spec, "init_containers", None) or [])]
    values = [getattr(entry, "value", None) for one in containers for entry in getattr(one, "env", None) or []]
    for data in (getattr(manifest, "data", None), getattr(manifest, "string_data", None)):
        values += (data or {}).values()
    # The longest first: one value may be a part of another.
    return tuple(sorted({str(value) for value in values if value and len(str(value)) >= 8}, key=len, reverse=True))


def refusal_of(status: int, told: str) -> Refusal | None:
    """Return the refusal that a create error amounts to, None if it is a failure.

    Quotas, admission policies and malformed pods are answers: restarting the hub, which is what too many failures
    lead to, heals none of them.
    """
    if status == 403 and "exceeded quota" in told:
        return Refusal(
            RefusalReason.QUOTA,
            "The cluster's quota for notebooks is used up. Stop a server that is not needed, or try again later.",
        )
    if status == 403 and " cannot create resource " in told:
        return Refusal(
            RefusalReason.PERMISSION,
            "This hub lacks a permission that it needs to start a server. An administrator has to give it that; the "
            "hub's log says which one.",
        )
    if status in (400, 403, 422):
        return Refusal(
            RefusalReason.POD_REJECTED,
            "The cluster does not accept this server as it is configured. An administrator finds the details in the "
            "hub's log.",
        )
    return None


class QuietCreation(KubeSpawner):
    """KubeSpawner that creates objects without telling the log what is in them, a bounded number at a time."""

    concurrent_creates = Integer(
        10,
        min=1,
        config=True,
        help="""
        How many pods are created at the same time, by all starts together.

        Too many and a class that starts at once waits for each other: everybody becomes ready with the last one, and
        the API server may answer 429. Too few and a slow API server holds up those who wait for their turn.
        """,
    )

    _creates: ClassVar[dict[int, asyncio.Semaphore]] = {}

    pod_request: asyncio.Future[Any] | None = None
    """The request that creates the pod: it goes on when nobody waits for it any more, so that its pod can be deleted.
    Its result is the created pod."""

    async def _make_create_pod_request(self, pod: Any, request_timeout: float) -> bool:
        """Create the pod; return False to be called again. KubeSpawner's own logs the whole pod on an error."""
        name = pod.metadata.name
        # A request that takes longer than the timeout is waited for again, not sent again.
        if self.pod_request is None:
            slot = self._create_slot()
            # Whoever is stopped while waiting here has asked the cluster for nothing.
            await slot.acquire()
            self.log.info("creating pod namespace=%s name=%s", self.namespace, name)
            self.pod_request = asyncio.ensure_future(self._create_pod(pod, slot))
        try:
            await asyncio.wait_for(asyncio.shield(self.pod_request), request_timeout)
        except (OSError, ClientError):
            # Either the time is over, and then the request may just have ended all the same, or the connection broke.
            ended = self.pod_request if self.pod_request.done() else None
            if ended and isinstance(ended.exception(), OSError | ClientError):
                # The pod may be there or not: the next try finds out.
                self.pod_request = None
            return ended is not None and ended.exception() is None
        except ApiException as error:
            self.pod_request = None
            if error.status != 409:
                return self._not_created("pod", pod, error)
            self.log.info("pod exists, deleting it first namespace=%s name=%s", self.namespace, name)
            await self.stop(True)
            return False
        return True

    async def _create_pod(self, pod: Any, slot: asyncio.Semaphore) -> Any:
        try:
            return await self.api.create_namespaced_pod(self.namespace, pod)
        finally:
            slot.release()

    async def _make_create_resource_request(self, kind: str, manifest: Any) -> bool:
        """Create a secret or service; return False to be called again. KubeSpawner's own logs the whole secret."""
        create = getattr(self.api, f"create_namespaced_{kind}")
        try:
            await asyncio.wait_for(create(self.namespace, manifest), self.k8s_api_request_timeout)
        except TimeoutError:
            return False
        except ApiException as error:
            return error.status == 409 or self._not_created(kind, manifest, error)
        return True

    async def _make_create_pvc_request(self, pvc: Any, request_timeout: float) -> bool:
        """Create the volume claim; return False to be called again."""
        try:
            return bool(await super()._make_create_pvc_request(pvc, request_timeout))
        except ApiException as error:
            return self._not_created("volume claim", pvc, error)

    def _not_created(self, kind: str, manifest: Any, error: Any) -> bool:
        """Return False where another try may help; raises StartRefused or CreateFailed, without the error's body."""
        name = manifest.metadata.name
        told = told_by(error, (self.api_token, *secrets_of(manifest)))
        self.log.warning("%s not created name=%s status=%s told=%r", kind, name, error.status, told)
        if error.status in _TRANSIENT:
            return False
        refusal = refusal_of(error.status, told)
        if refusal and (kind in ("pod", "volume claim") or refusal.reason is RefusalReason.PERMISSION):
            raise StartRefused(refusal) from None
        raise CreateFailed(
            f"{kind} {name} was not created: HTTP {error.status}; its body is not logged, it may hold secrets"
        ) from None

    def _create_slot(self) -> asyncio.Semaphore:
        return self._creates.setdefault(self.concurrent_creates, asyncio.Semaphore(self.concurrent_creates))
