"""The words with which a start ends: what happened, what was tried, what to do next.

No class names and no cluster texts in a message: those are for administrators and go into ``detail["technical"]``.
"""

from __future__ import annotations

from gpu_launcher.domain.outcomes import Refusal, RefusalReason
from gpu_launcher.explain.finding import listed, one_line, spelled

_SAFE = "Your files are safe."


def no_capacity(tried: tuple[str, ...], since: float, waited_s: float) -> Refusal:
    """The cloud has no machine; *since* is when it began to say so, Unix seconds."""
    return Refusal(
        RefusalReason.CAPACITY,
        f"No machine of this kind could be had from the cloud in {spelled(waited_s)}. {_sentences(tried)}"
        f"{_SAFE} Try again later, or start another profile.",
        {"since": since, "tried": tried},
    )


def cloud_quota(tried: tuple[str, ...], since: float, waited_s: float) -> Refusal:
    """The account may not have more."""
    return Refusal(
        RefusalReason.CLOUD_QUOTA,
        f"The hub's cloud account may not have more machines of this kind at a time; this was tried for "
        f"{spelled(waited_s)}. {_sentences(tried)}{_SAFE} Stop a server that you no longer need, or start another "
        "profile; an administrator can have the account's limit raised.",
        {"since": since, "tried": tried},
    )


def pool_limit(technical: str) -> Refusal:
    """The NodePools' limits are reached."""
    return _refusal(
        RefusalReason.POOL_LIMIT,
        "All machines that this hub may have for this profile are in use: the limit is reached. Stop a server that you "
        "no longer need, try again when somebody else has finished, or start another profile.",
        technical,
    )


def no_node_pool(technical: str, *, exists: bool) -> Refusal:
    """No NodePool serves the pod; *exists*: there is one, and it is not ready."""
    what = "The machines for this profile are switched off or not set up correctly at the moment"
    if not exists:
        what = "This cluster has no machines for this profile"
    return _refusal(
        RefusalReason.NO_NODE_POOL, f"{what}. Start another profile; an administrator has to change this.", technical
    )


def no_machine_in_zone(zones: tuple[str, ...]) -> Refusal:
    """The volume is where the profile has no machines."""
    return _refusal(
        RefusalReason.NO_NODE_POOL,
        f"Your files are in {listed(zones)}, and this profile has no machines there. Start another profile; an "
        "administrator can offer this one there.",
        "no NodePool allows the zone of the volume",
    )


def node_class(technical: str) -> Refusal:
    """The node class is not ready, so no machine can be made."""
    return _refusal(
        RefusalReason.NODE_CLASS,
        "New machines for this profile cannot be made at the moment, because their settings in the cloud are not "
        "valid. Start another profile; an administrator has to correct them.",
        technical,
    )


def unschedulable(technical: str) -> Refusal:
    """Karpenter says that no machine can ever take the pod."""
    return _refusal(
        RefusalReason.UNSCHEDULABLE,
        "No machine that this hub can buy fits this profile. Start another profile; an administrator has to correct "
        "this one.",
        technical,
    )


def not_launched(waited_s: float, technical: str) -> Refusal:
    """The cloud answers with errors that say nothing about capacity."""
    return _refusal(
        RefusalReason.NODE_NOT_REGISTERING,
        f"The cloud did not start a machine within {spelled(waited_s)} and gave no reason that a wait would cure. Try "
        "again or start another profile; an administrator can see the cloud's answer.",
        technical,
    )


def not_registering(machine: str, waited_s: float, technical: str) -> Refusal:
    """A machine runs, is paid for, and does not become a node."""
    return _refusal(
        RefusalReason.NODE_NOT_REGISTERING,
        f"A machine{machine} was started {spelled(waited_s)} ago and has not joined the cluster since. Try "
        "again or start another profile; an administrator can look into the machine.",
        technical,
    )


def gpu_not_advertised(machine: str, waited_s: float, technical: str) -> Refusal:
    """The device plugin stays silent."""
    return _refusal(
        RefusalReason.GPU_NOT_ADVERTISED,
        f"The machine{machine} came up, but its GPU driver has not reported a GPU for {spelled(waited_s)}. Try again "
        "or start another profile; an administrator can look into the driver.",
        technical,
    )


def node_deleted(technical: str) -> Refusal:
    """The node went away under the pod."""
    return _refusal(
        RefusalReason.NODE_DELETED,
        f"The machine was taken away or failed while your server was starting. {_SAFE} Start again to get another one.",
        technical,
    )


def pod_deleted() -> Refusal:
    """Somebody deleted the pod."""
    return _refusal(
        RefusalReason.POD_DELETED,
        f"Your server was deleted in the cluster while it was starting, not by this hub. {_SAFE} Start it again; if it "
        "happens again, an administrator can find out who does it.",
        "the pod was deleted by somebody else",
    )


def evicted(why: str, technical: str) -> Refusal:
    """The machine or the cluster threw the pod out; *why* is the end of a sentence."""
    return _refusal(
        RefusalReason.EVICTED,
        f"Your server had to leave its machine while it was starting, because {why}. {_SAFE} Start it again; if it "
        "happens again, tell an administrator.",
        technical,
    )


def not_admitted(technical: str) -> Refusal:
    """The kubelet refused the pod."""
    return _refusal(
        RefusalReason.ADMISSION_ERROR,
        "The machine did not accept your server, although it had said that there is room. Start again to get another "
        "machine; if it happens again, tell an administrator.",
        technical,
    )


def image(reference: str, why: str, technical: str) -> Refusal:
    """The image cannot be pulled; *why* is the end of a sentence."""
    named = f"The image {one_line(reference, 200)}" if reference else "The image"
    return _refusal(
        RefusalReason.IMAGE,
        f"{named} cannot be pulled: {why}. Pick another image; if this one is on the list, an administrator has to "
        "correct it.",
        technical,
    )


def crash(times: int, why: str, technical: str) -> Refusal:
    """The container does not stay up; *why* is a sentence of its own, or ""."""
    what = "ended by itself" if times < 2 else f"ended by itself {times} times"
    return _refusal(
        RefusalReason.CRASH,
        f"The server was started and {what} before it could be used. {why}{' ' if why else ''}Pick another image, or "
        "tell an administrator.",
        technical,
    )


def not_created(technical: str) -> Refusal:
    """The container cannot be created at all: something that it refers to is missing."""
    return _refusal(
        RefusalReason.CRASH,
        "The server's container cannot be created, because something that its settings refer to is missing or wrong. "
        "An administrator has to correct this; another profile may work.",
        technical,
    )


def home_in_use(server: str, technical: str) -> Refusal:
    """Another server of the user holds the volume on another machine."""
    name = server_words(server)
    return Refusal(
        RefusalReason.HOME_IN_USE,
        f"Your files are in use by {name} on another machine, and only one machine at a time can have them. Stop "
        f"{name}, then start this one again.",
        {"server": server, "technical": technical},
    )


def server_words(server: str) -> str:
    """Return what a user calls one of their servers; "" is the default one."""
    return f'your server "{one_line(server, 80)}"' if server else "your default server"


def attached_elsewhere(lost: bool, waited_s: float, technical: str) -> Refusal:
    """The volume is still attached to another node; *lost*: one that is gone."""
    where = "a machine that is gone; the cloud lets go of them after about 6 minutes" if lost else "another machine"
    return _refusal(
        RefusalReason.VOLUME_ATTACHED_ELSEWHERE,
        f"Your files are still attached to {where}; this server waited {spelled(waited_s)} for them. {_SAFE} Try again "
        "in a few minutes; if it lasts, tell an administrator.",
        technical,
    )


def volume(why: str, technical: str) -> Refusal:
    """The volume cannot be bound or mounted; *why* is the end of a sentence."""
    return _refusal(
        RefusalReason.VOLUME,
        f"The volume with your files cannot be used: {why}. Try again; if it happens again, an administrator has to "
        "look into it.",
        technical,
    )


def _refusal(reason: RefusalReason, message: str, technical: str) -> Refusal:
    return Refusal(reason, message, {"technical": one_line(technical)} if technical else {})


def _sentences(tried: tuple[str, ...]) -> str:
    return "".join(f"{one}. " for one in tried[:4])
