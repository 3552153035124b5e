"""What the NodePools can still give a pod, and what Karpenter's own events say about it."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_launcher.domain.outcomes import Refusal
from gpu_launcher.domain.start import StartSnapshot
from gpu_launcher.domain.views import EventView, NodePoolView, PodView
from gpu_launcher.explain import refusals
from gpu_launcher.explain.finding import listed
from gpu_launcher.explain.matching import could_serve, least_gpus, serves

# NodePools are replaced and node classes blink; too short and a start dies of it, too long and the user waits for
# nothing.
_GRACE_S = 10.0
# Karpenter counts a machine against the limit before its claim has reached our own list.
_LIMIT_GRACE_S = 5.0
# Karpenter says why it cannot place a pod once in 5 minutes.
_SAID_AGAIN_S = 330.0


@dataclass(frozen=True, slots=True)
class Supply:
    """Words for the page and, if nothing can come any more, the refusal. ``able`` can serve the pod by their labels."""

    able: tuple[NodePoolView, ...] = ()
    words: str = ""
    detail: str = ""
    refusal: Refusal | None = None


def supply(pod: PodView, snapshot: StartSnapshot, age_s: float, protected: bool) -> Supply:
    """Return what NodePools mean for a pod that is *age_s* seconds old.

    *protected*: something is there or on its way already, so that no limit and no missing NodePool matters.
    """
    if snapshot.node_pools is None:
        return Supply()
    volumes = snapshot.volumes or ()
    there = [pool for pool in snapshot.node_pools if not pool.deleting]
    able = tuple(pool for pool in there if serves(pod, pool, volumes))
    if not able:
        found = _none(pod, there, snapshot, age_s)
    elif all(pool.ready is False for pool in able):
        found = _not_ready(able, snapshot.now, age_s)
    else:
        usable = tuple(pool for pool in able if pool.ready is not False)
        found = _limited(pod, usable, snapshot, age_s) or Supply(able)
    return Supply(able) if protected else found


def karpenter_says(snapshot: StartSnapshot) -> EventView | None:
    """Return Karpenter's last word on why it cannot place the pod; None if it has not said so lately."""
    said = [
        event
        for event in snapshot.events
        if event.reason == "FailedScheduling" and event.message.startswith("Failed to schedule pod")
    ]
    fresh = said and (said[-1].at is None or snapshot.now - (said[-1].at or 0) <= _SAID_AGAIN_S)
    return said[-1] if fresh else None


def sold_out(said: EventView | None) -> bool:
    """Return whether Karpenter means that the cloud has refused all that would fit, minutes ago."""
    message = _before_lists(said)
    return "enough resources, had a required offering" in message or "has the required offering" in message


def exceeds_limits(said: EventView | None, pools: tuple[NodePoolView, ...]) -> bool:
    """Return whether Karpenter means that the limits of all these NodePools are reached."""
    message = said.message if said else ""
    if "exceed limits" not in message and "limits have been exhausted" not in message:
        return False
    limited = [pool for pool in pools if pool.limits]
    return len(limited) == len(pools) and (len(pools) == 1 or all(pool.name in message for pool in pools))


def never_fits(said: EventView | None) -> bool:
    """Return whether Karpenter means that no machine could ever take the pod, whatever the cloud has."""
    message = _before_lists(said)
    if not message or sold_out(said) or "limit" in message or "offering" in message.rpartition("or had")[0]:
        return False
    hopeless = ("incompatible requirements", "no instance type", "did not tolerate taint", "no instance types")
    return any(words in message for words in hopeless) and "tuple" not in message


def _before_lists(said: EventView | None) -> str:
    # Behind this come labels, which may hold any words.
    return said.message.partition("requirements=")[0] if said else ""


def _none(pod: PodView, there: list[NodePoolView], snapshot: StartSnapshot, age_s: float) -> Supply:
    if _own_machines(pod, snapshot):
        return Supply(words="All machines of this kind are in use", detail="waiting for one to become free")
    zones = tuple(zone for volume in snapshot.volumes or () for zone in volume.zones)
    elsewhere = bool(zones) and any(serves(pod, pool) for pool in there)
    if elsewhere:
        words, end = f"No machines for this profile in {listed(zones)}", refusals.no_machine_in_zone(zones)
    else:
        technical = f"no NodePool allows what the pod asks for; NodePools: {listed(tuple(p.name for p in there), 8)}"
        words, end = "No machines for this profile are set up", refusals.no_node_pool(technical, exists=False)
    return Supply(words=words, refusal=end if age_s >= _GRACE_S else None)


def _own_machines(pod: PodView, snapshot: StartSnapshot) -> bool:
    """Whether there are machines that Karpenter did not make and that could serve, or that cannot be seen."""
    if snapshot.nodes is None:
        return True
    return any(not node.node_pool and could_serve(pod, node, snapshot.volumes or ()) for node in snapshot.nodes)


def _not_ready(able: tuple[NodePoolView, ...], now: float, age_s: float) -> Supply:
    since = [pool.conditions["Ready"].since for pool in able]
    lasting = all(at is None or now - at >= _GRACE_S for at in since) and (None not in since or age_s >= _GRACE_S)
    blamed = [(pool, pool.conditions.get("NodeClassReady")) for pool in able]
    classes = [(pool, found) for pool, found in blamed if found is not None and not found.true]
    if len(classes) == len(able):
        technical = "; ".join(f"NodePool {pool.name}: {found.reason} {found.message}" for pool, found in classes)
        words, end = "New machines cannot be made at the moment", refusals.node_class(technical)
    else:
        ready = [(pool, pool.conditions["Ready"]) for pool in able]
        technical = "; ".join(f"NodePool {pool.name}: {found.reason} {found.message}" for pool, found in ready)
        words, end = "The machines for this profile are switched off", refusals.no_node_pool(technical, exists=True)
    return Supply(able, words, refusal=end if lasting else None)


def _limited(pod: PodView, usable: tuple[NodePoolView, ...], snapshot: StartSnapshot, age_s: float) -> Supply | None:
    full = [pool for pool in usable if _full(pod, pool)]
    said = karpenter_says(snapshot)
    if len(full) < len(usable) and not exceeds_limits(said, usable):
        return None
    words = "The limit on machines for this profile is reached"
    if snapshot.nodes is None or snapshot.claims is None or age_s < _LIMIT_GRACE_S or _leaving(usable, snapshot):
        return Supply(usable, words)
    technical = "; ".join(f"NodePool {pool.name}: used {dict(pool.used)} of {dict(pool.limits)}" for pool in usable)
    return Supply(usable, words, refusal=refusals.pool_limit(technical))


def _full(pod: PodView, pool: NodePoolView) -> bool:
    """Whether not even the smallest machine for the pod is within the limits; a machine is never smaller than it."""
    asked = pod.requests
    least = {
        "cpu": asked.cpu_m / 1000,
        "memory": float(asked.memory),
        "ephemeral-storage": float(asked.ephemeral),
        "nvidia.com/gpu": float(least_gpus(pod)),
        "nodes": 1.0,
    }
    return any(
        pool.used.get(name, 0.0) + least.get(name, 0.0) > limit and least.get(name, 0.0) > 0
        for name, limit in pool.limits.items()
    )


def _leaving(pools: tuple[NodePoolView, ...], snapshot: StartSnapshot) -> bool:
    """Whether a machine of these NodePools is just going away, which makes room below the limit."""
    names = {pool.name for pool in pools}
    return any(claim.deleting and claim.node_pool in names for claim in snapshot.claims or ())
