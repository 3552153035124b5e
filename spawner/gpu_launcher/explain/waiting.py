"""A pod that has no node yet: what it waits for, and whether that can still come."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gpu_launcher.domain.outcomes import Refusal
from gpu_launcher.domain.stage import Stage, StartKind
from gpu_launcher.domain.start import StartPolicy, StartSnapshot
from gpu_launcher.domain.views import NodeClaimView, NodeView, PodView
from gpu_launcher.explain import refusals
from gpu_launcher.explain.bought import Refused, refused
from gpu_launcher.explain.finding import Diagnosis
from gpu_launcher.explain.matching import (
    claim_on,
    claims_of,
    coming_for,
    compatible,
    could_serve,
    pod_is_next,
    with_room,
)
from gpu_launcher.explain.supply import Supply, karpenter_says, never_fits, sold_out, supply
from gpu_launcher.explain.volumes import unbound

# A node with room takes a pod within seconds; after this, something that we cannot see takes the room.
_ROOM_S = 30.0
# Karpenter's first word on a pod may come before a NodePool that was just made is ready.
_HOPELESS_S = 15.0
# Karpenter takes back what was not launched after 300 s, and begins anew: the reason must be told before that.
_LAUNCH_S = 240
# Nodes that start and never end starting are not what a pod waits for.
_STARTING_S = 900.0


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known around a pod that waits."""

    pod: PodView
    snapshot: StartSnapshot
    policy: StartPolicy
    age_s: float
    mine: NodeClaimView | None
    room: NodeView | None
    supply: Supply
    refused: Refused
    protected: bool


def waiting(snapshot: StartSnapshot, pod: PodView, policy: StartPolicy) -> Diagnosis:
    """Return the diagnosis of a pod without a node."""
    scheduled = pod.conditions.get("PodScheduled")
    problem = unbound(pod, snapshot, policy)
    if problem is not None:
        return problem
    facts = _facts(snapshot, pod, policy)
    # Bounds that have passed, state that cannot get better, then what is coming, then what is being looked for.
    found = _room(facts) or _coming(facts) or _starting(facts)
    if found is None and scheduled is not None and scheduled.reason == "SchedulingGated":
        found = Diagnosis(Stage.QUEUED, "Held back until the cluster releases it", since=scheduled.since)
    if found is None and scheduled is None and not facts.supply.words and not facts.refused.tried:
        found = Diagnosis(Stage.QUEUED, "Waiting for the scheduler", since=pod.created_at)
    found = found or _searching(facts)
    return replace(found, tried=facts.refused.tried, kind=StartKind.UNKNOWN if facts.room else StartKind.COLD)


def _facts(snapshot: StartSnapshot, pod: PodView, policy: StartPolicy) -> _Facts:
    age = max(0.0, snapshot.now - (pod.created_at or snapshot.asked_at))
    free = with_room(pod, snapshot)
    rooms = [node for node in free if snapshot.now - _useful_since(snapshot, pod, node) <= _ROOM_S]
    slots = (snapshot.ready_slots or 0) > 0
    protected = slots or bool(rooms) or bool(coming_for(pod, snapshot)) or _just_arrived(pod, snapshot)
    given = supply(pod, snapshot, age, protected)
    mine = next(iter(claims_of(pod, snapshot)), None)
    # Of many that wait, the oldest get the first machines.
    room = rooms[0] if rooms and (pod_is_next(pod, snapshot, len(rooms))) else None
    lacking = refused(pod, snapshot, given.able)
    return _Facts(pod, snapshot, policy, age, mine, room, given, lacking, protected)


def _just_arrived(pod: PodView, snapshot: StartSnapshot) -> bool:
    """Whether a NodeClaim for such a pod became a node so lately that the node may not be seen yet."""
    return any(
        claim.reached("Initialized")
        and not claim.deleting
        and snapshot.now - (claim.conditions["Initialized"].since or 0.0) < _ROOM_S
        and (claim.created_at or 0.0) >= (pod.created_at or 0.0) - 1
        and compatible(pod, claim.requirements, snapshot.volumes or ())
        for claim in snapshot.claims or ()
    )


def _room(facts: _Facts) -> Diagnosis | None:
    node = facts.room
    if node is None:
        return None
    since = _useful_since(facts.snapshot, facts.pod, node)
    return Diagnosis(Stage.SCHEDULING, "A machine is ready", since=since).on_node(node)


def _useful_since(snapshot: StartSnapshot, pod: PodView, node: NodeView) -> float:
    """When the scheduler could first have put the pod there; long ago where it has looked at the node and did not.

    We do not see everybody's pods, so room that the scheduler does not use is no room.
    """
    ready, told = node.conditions.get("Ready"), pod.conditions.get("PodScheduled")
    claim = claim_on(node, snapshot)
    done = claim.conditions.get("Initialized") if claim is not None else None
    came = max(
        node.created_at or 0.0,
        (ready.since if ready else None) or 0.0,
        (done.since if done and done.true else None) or 0.0,
    )
    if told is not None and not told.true:
        # Times of conditions are whole seconds.
        return came if came >= (told.since or 0.0) - 1 else 0.0
    return max(came, pod.created_at or 0.0)


# -- a machine is coming ----------------------------------------------------------------------------------------------


def _coming(facts: _Facts) -> Diagnosis | None:
    claim = facts.mine
    if claim is None:
        return None
    if not claim.reached("Launched"):
        return _launching(facts, claim)
    machine = " ".join(filter(None, ("Machine", claim.instance_type)))
    place = f" ({claim.zone})" if claim.zone else ""
    node = next((node for node in facts.snapshot.nodes or () if node.name == claim.node), None) if claim.node else None
    if _waits_for_gpu(facts, claim, node):
        return _gpu(facts, claim, node)
    registered = claim.conditions.get("Registered")
    since = claim.conditions["Launched"].since or claim.created_at
    end: Refusal | None = None
    waited = _waited(facts, since)
    if min(waited, facts.age_s) > facts.policy.not_registering_s:
        told = claim.conditions.get("Initialized") if claim.reached("Registered") else registered
        technical = f"NodeClaim {claim.name}: {told.reason} {told.message}" if told else f"NodeClaim {claim.name}"
        end = refusals.not_registering(_named(claim), waited, technical)
    detail = "it joins the cluster" if not claim.reached("Registered") else "it gets ready"
    return Diagnosis(Stage.BOOTING, f"{machine} started{place}", detail, since=since, refusal=end).on_claim(claim)


def _launching(facts: _Facts, claim: NodeClaimView) -> Diagnosis:
    launched = claim.conditions.get("Launched")
    failed = launched is not None and launched.reason not in ("", "AwaitingReconciliation", "Unknown")
    waited = _waited(facts, claim.created_at)
    end = None
    if min(waited, facts.age_s) > min(facts.policy.not_registering_s, _LAUNCH_S):
        technical = f"NodeClaim {claim.name}: {launched.reason} {launched.message}" if launched else claim.name
        end = refusals.not_launched(waited, technical)
    elif waited > _ROOM_S:
        end = facts.refused.ended(facts.snapshot.now, facts.policy.no_capacity_s)
    detail = "the cloud answered with an error and is asked again" if failed else ""
    return Diagnosis(
        Stage.LAUNCHING,
        "Asking the cloud for a machine",
        detail,
        since=claim.created_at,
        refusal=end,
    ).on_claim(claim)


def _waited(facts: _Facts, since: float | None) -> float:
    """Seconds since then, 0 if unknown. A start is as patient with a machine that was asked for before it began."""
    return facts.snapshot.now - since if since is not None else 0.0


def _waits_for_gpu(facts: _Facts, claim: NodeClaimView, node: NodeView | None) -> bool:
    if not facts.pod.requests.gpus or not claim.reached("Registered"):
        return False
    initialized = claim.conditions.get("Initialized")
    if initialized is not None and initialized.reason in ("ResourceNotRegistered", "DRADriverPoolsNotPublished"):
        return True
    return node is not None and node.ready and not node.gpus_advertised


def _gpu(facts: _Facts, claim: NodeClaimView, node: NodeView | None) -> Diagnosis:
    ready = node.conditions.get("Ready") if node is not None and node.ready else None
    since = (ready.since if ready else None) or claim.conditions["Registered"].since or claim.created_at
    waited = _waited(facts, since)
    end = None
    if min(waited, facts.age_s) > facts.policy.gpu_missing_s:
        technical = f"NodeClaim {claim.name}, node {claim.node}: the device plugin has not advertised GPUs"
        end = refusals.gpu_not_advertised(_named(claim), waited, technical)
    return Diagnosis(Stage.GPU_DRIVER, "Waiting for the GPU driver", since=since, refusal=end).on_claim(claim)


def _starting(facts: _Facts) -> Diagnosis | None:
    """A node that starts and that no NodeClaim tells of: not Karpenter's, or NodeClaims cannot be read."""
    snapshot = facts.snapshot
    for node in snapshot.nodes or ():
        foreign = snapshot.claims is None or not node.node_pool
        young = snapshot.now - (node.created_at or 0.0) < _STARTING_S
        if not (foreign and young and could_serve(facts.pod, node, snapshot.volumes or ())):
            continue
        if not (node.ready and node.initialized):
            words = " ".join(filter(None, ("Machine", node.instance_type, "started")))
            return Diagnosis(Stage.BOOTING, words, "it gets ready", since=node.created_at).on_node(node)
        if facts.pod.requests.gpus and not node.gpus_advertised:
            ready = node.conditions.get("Ready")
            since = ready.since if ready else node.created_at
            return Diagnosis(Stage.GPU_DRIVER, "Waiting for the GPU driver", since=since).on_node(node)
    return None


# -- nothing is coming yet --------------------------------------------------------------------------------------------


def _searching(facts: _Facts) -> Diagnosis:
    snapshot, given = facts.snapshot, facts.supply
    since = facts.pod.created_at
    slots = snapshot.ready_slots or 0
    if facts.age_s < _ROOM_S and pod_is_next(facts.pod, snapshot, slots):
        return Diagnosis(Stage.SCHEDULING, "A machine is ready", since=since)
    if given.words:
        return Diagnosis(Stage.FINDING_CAPACITY, given.words, given.detail, since=since, refusal=given.refusal)
    said = karpenter_says(snapshot)
    lacking = facts.refused
    if lacking.blocked_at is None and sold_out(said) and not facts.mine:
        # After a restart of the hub this is all that is left of the cloud's refusals.
        began = (said.first_at or said.at) if said else None
        began = snapshot.now if began is None else began
        lacking = replace(lacking, blocked_at=max(snapshot.asked_at, began), since=began)
    if lacking.blocked_at is not None:
        words = "The cloud has none now, it is asked again"
        if lacking.quota:
            words = "The cloud account may not have more machines now, the cloud is asked again"
        end = None if facts.room else lacking.ended(snapshot.now, facts.policy.no_capacity_s)
        return Diagnosis(Stage.FINDING_CAPACITY, words, since=lacking.since, refusal=end)
    if said is not None and never_fits(said) and not facts.protected and _settled(facts, said.first_at or said.at):
        return Diagnosis(
            Stage.FINDING_CAPACITY,
            "No machine fits this profile",
            since=since,
            refusal=refusals.unschedulable(said.message),
        )
    words = "Spot had none, looking for on-demand" if lacking.tried else "Looking for a machine"
    detail = "" if given.able or snapshot.node_pools is None else "waiting for a machine to become free"
    return Diagnosis(Stage.FINDING_CAPACITY, words, detail, since=since)


def _settled(facts: _Facts, said_at: float | None) -> bool:
    """Whether Karpenter's word has stood long enough, and everything that could disprove it is known."""
    snapshot = facts.snapshot
    known = None not in (snapshot.nodes, snapshot.claims, snapshot.node_pools)
    return known and facts.age_s >= _HOPELESS_S and snapshot.now - (said_at or snapshot.now) >= _HOPELESS_S


def _named(claim: NodeClaimView) -> str:
    return f" ({claim.instance_type})" if claim.instance_type else ""
