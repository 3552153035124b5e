"""A pod's volumes: not bound, not attached, or held by somebody else."""

from __future__ import annotations

from gpu_launcher.domain.outcomes import Refusal
from gpu_launcher.domain.stage import Stage
from gpu_launcher.domain.start import StartPolicy, StartSnapshot
from gpu_launcher.domain.views import PodView, VolumeView
from gpu_launcher.explain import refusals
from gpu_launcher.explain.finding import Diagnosis

# A server that is being stopped lets go of its disk within seconds; before, nobody is told to stop it.
_IN_USE_S = 10.0

_UNBOUND = (
    ("not found", "it does not exist"),
    ("unbound immediate", "it has not been created"),
    ("is being deleted", "it is being deleted"),
    ("non-existent", "its disk is gone"),
    ("Lost", "its disk is gone"),
)


def unbound(pod: PodView, snapshot: StartSnapshot, policy: StartPolicy) -> Diagnosis | None:
    """Return the diagnosis of a pod that no node can take because of its volumes; None if that is not so."""
    # Not the stage of volumes: that one comes after a machine, and stages never go back.
    told = pod.conditions.get("PodScheduled")
    message = told.message if told and not told.true else ""
    since = (told.since if told else None) or pod.created_at or snapshot.asked_at
    waited = snapshot.now - since
    if "ReadWriteOncePod" in message:
        end = _held(pod, snapshot, pod.claims, None) if waited > _IN_USE_S else None
        if end is None and waited > policy.volume_s:
            end = refusals.attached_elsewhere(False, waited, message)
        return Diagnosis(Stage.QUEUED, "Waiting for your files, which another server uses", since=since, refusal=end)
    why = _why_unbound(pod, snapshot, message)
    if not why:
        return None
    end = refusals.volume(why, message or f"claims {pod.claims}: Lost") if waited > policy.volume_s else None
    return Diagnosis(Stage.QUEUED, "Waiting for the volume with your files", why, since=since, refusal=end)


def attaching(pod: PodView, snapshot: StartSnapshot, policy: StartPolicy, since: float) -> Diagnosis | None:
    """Return the diagnosis of a pod on a node that waits for a volume since then; None if it does not wait for one."""
    if not pod.claims:
        return None
    waited = snapshot.now - since
    complaints = [event for event in snapshot.events if event.reason in ("FailedAttachVolume", "FailedMount")]
    elsewhere = _elsewhere(pod, snapshot)
    multi = [event for event in complaints if "Multi-Attach" in event.message]
    if elsewhere or multi:
        technical = multi[-1].message if multi else f"volume {elsewhere[0].volume}: on {elsewhere[0].attached_to}"
        claims = tuple(volume.claim for volume in elsewhere) or pod.claims
        held = _held(pod, snapshot, claims, technical)
        end = held if waited > _IN_USE_S else None
        if end is None and waited > policy.volume_s:
            end = refusals.attached_elsewhere(_lost(elsewhere, snapshot), waited, technical)
        words = "Waiting for your files, which another machine still has"
        if held is not None:
            words = f"Waiting for your files, which {refusals.server_words(str(held.detail['server']))} uses"
        return Diagnosis(Stage.VOLUME, words, since=since, refusal=end)
    end = None
    if complaints and waited > policy.volume_s:
        end = refusals.volume("the machine cannot mount it", complaints[-1].message)
    missing = [volume for volume in snapshot.volumes or () if volume.one_node and pod.node not in volume.attached_to]
    if missing or complaints:
        return Diagnosis(Stage.VOLUME, "Attaching the volume with your files", since=since, refusal=end)
    return None


def _why_unbound(pod: PodView, snapshot: StartSnapshot, message: str) -> str:
    if any(volume.phase == "Lost" for volume in snapshot.volumes or ()):
        return "its disk is gone"
    lower = message.lower()
    if "persistentvolumeclaim" not in lower and "persistent volume" not in lower:
        return ""
    return next((why for words, why in _UNBOUND if words in message), "") if pod.claims else ""


def _elsewhere(pod: PodView, snapshot: StartSnapshot) -> list[VolumeView]:
    return [
        volume
        for volume in snapshot.volumes or ()
        if volume.one_node and volume.attached_to and pod.node not in volume.attached_to
    ]


def _held(pod: PodView, snapshot: StartSnapshot, claims: tuple[str, ...], technical: str | None) -> Refusal | None:
    """The refusal that names the user's own server which has these claims; None if none has, or it is stopping."""
    stopping = {
        (other.node, claim)
        for other in snapshot.node_pods or ()
        if (other.deleting or other.ended) and other.uid != pod.uid
        for claim in other.claims
    }
    for server in snapshot.own_servers:
        for claim in server.claims:
            # Two servers on one machine share its disks.
            apart = technical is None or (server.node and server.node != pod.node)
            if claim in claims and apart and (server.node, claim) not in stopping:
                return refusals.home_in_use(server.name, technical or f"claim {claim} is in use on {server.node}")
    return None


def _lost(volumes: list[VolumeView], snapshot: StartSnapshot) -> bool:
    if snapshot.nodes is None:
        return False
    names = {node.name for node in snapshot.nodes if node.ready}
    return any(node not in names for volume in volumes for node in volume.attached_to)
