"""Causes of failed starts: what everybody who watches the cluster could see, and when."""

from __future__ import annotations

import re
from collections.abc import Callable

from fault_site import Site, about
from gpu_launcher.cluster.api import Raw
from launcher import StartStream
from sightings import Sighting

Cause = Callable[[Site, StartStream], Sighting | None]
"""Returns the first sighting of a cause, None if it did not show yet."""


def refused_by_the_cloud(pool: str) -> Cause:
    """Karpenter's event about a NodeClaim of the pool that the cloud did not serve."""

    def cause(site: Site, stream: StartStream) -> Sighting | None:
        prefix = f"{site.pools[pool].name}-"
        return site.sightings.first(
            "events",
            lambda one: (
                one.raw["reason"] == "InsufficientCapacityError"
                and one.raw["involvedObject"]["name"].startswith(prefix)
                and one.at >= stream.asked_at
            ),
        )

    return cause


def taken_back(pool: str) -> Cause:
    """The first NodeClaim of the pool that Karpenter took back: with many of them, the events come much later."""

    def cause(site: Site, stream: StartStream) -> Sighting | None:
        prefix = f"{site.pools[pool].name}-"
        return site.sightings.first(
            "nodeclaims",
            lambda one: (
                one.name.startswith(prefix) and (one.kind == "DELETED" or "deletionTimestamp" in one.raw["metadata"])
            ),
        )

    return cause


def the_pod(site: Site, stream: StartStream) -> Sighting | None:
    """The pod itself: what is wrong was wrong before it came."""
    return site.sightings.first("pods", about(stream))


def launched(site: Site, stream: StartStream) -> Sighting | None:
    """The NodeClaim that was launched and never becomes a node."""
    return _of_pool(site, "nodeclaims", "lost", "Launched")


def node_without_gpu(site: Site, stream: StartStream) -> Sighting | None:
    """The node that is Ready without GPUs."""
    return _of_pool(site, "nodes", "silent", "Ready")


def _of_pool(site: Site, what: str, pool: str, condition: str) -> Sighting | None:
    name = site.pools[pool].name
    return site.sightings.first(
        what,
        lambda one: (
            (one.raw["metadata"].get("labels") or {}).get("karpenter.sh/nodepool") == name
            and any(item["type"] == condition and item["status"] == "True" for item in _conditions(one.raw))
        ),
    )


def _conditions(raw: Raw) -> list[Raw]:
    return (raw.get("status") or {}).get("conditions") or []


def waiting(reasons: str) -> Cause:
    """A container of the pod that waits for one of these reasons."""

    def holds(status: Raw) -> bool:
        return re.fullmatch(reasons, status["state"].get("waiting", {}).get("reason", "")) is not None

    return container(holds)


def container(holds: Callable[[Raw], bool]) -> Cause:
    def cause(site: Site, stream: StartStream) -> Sighting | None:
        mine = about(stream)
        return site.sightings.first(
            "pods",
            lambda one: mine(one) and any(map(holds, (one.raw.get("status") or {}).get("containerStatuses", ()))),
        )

    return cause


def ended_before(status: Raw) -> bool:
    """Whether a container ended at least once."""
    return bool(status["state"].get("terminated") or status.get("lastState", {}).get("terminated"))


def told_by_event(reason: str) -> Cause:
    """An event about the pod."""

    def cause(site: Site, stream: StartStream) -> Sighting | None:
        pod = the_pod(site, stream)
        uid = pod.raw["metadata"]["uid"] if pod else ""
        return site.sightings.first(
            "events", lambda one: one.raw["reason"] == reason and one.raw["involvedObject"].get("uid") == uid
        )

    return cause


def pod_going(site: Site, stream: StartStream) -> Sighting | None:
    """The pod's deletion."""
    mine = about(stream)
    return site.sightings.first(
        "pods", lambda one: mine(one) and (one.kind == "DELETED" or "deletionTimestamp" in one.raw["metadata"])
    )


def pod_failed(site: Site, stream: StartStream) -> Sighting | None:
    """The pod's failure."""
    mine = about(stream)
    return site.sightings.first("pods", lambda one: mine(one) and one.raw["status"].get("phase") == "Failed")


def node_gone(site: Site, stream: StartStream) -> Sighting | None:
    """The end of the node that the pod is on."""
    mine = about(stream)
    pod = site.sightings.first("pods", lambda one: mine(one) and bool(one.raw["spec"].get("nodeName")))
    name = pod.raw["spec"]["nodeName"] if pod else ""
    return site.sightings.first("nodes", lambda one: one.name == name and one.kind == "DELETED")
