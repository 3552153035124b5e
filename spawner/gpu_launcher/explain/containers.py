"""The containers of a pod on its node: pulled, created, running, or failing."""

from __future__ import annotations

from gpu_launcher.domain.image_reference import normalised
from gpu_launcher.domain.stage import Stage
from gpu_launcher.domain.start import StartPolicy, StartSnapshot
from gpu_launcher.domain.views import ContainerView, EventView, NodeView, PodView
from gpu_launcher.explain import refusals
from gpu_launcher.explain.finding import Diagnosis, one_line

_PULL_FAILS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError", "SignatureValidationFailed"}
)
_NEVER_PULLED = {
    "InvalidImageName": "its name is not valid",
    "ErrImageNeverPull": "it is not on the machine, and pulling is switched off",
}
_CREATE_FAILS = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError", "StartError"}
)
_NOT_THERE = ("not found", "manifest unknown", "name unknown", "does not exist", "no such manifest", "NotFound")
_NO_ACCESS = ("unauthorized", "denied", "forbidden", "authentication required", "401", "403")
_KUBELET_SAID = frozenset({"Pulled", "Created", "Started", "FailedCreatePodSandBox"})
_KUBELET_SPEAKS_S = 3.0
"""From the pod's place on a machine to the kubelet's first event, with room for a busy one."""
_EXITS = {
    126: "Its command cannot be executed in this image.",
    127: "The image does not hold the server's command.",
    137: "It was killed, most likely for using more memory than it has.",
    139: "It crashed (segmentation fault).",
}


def notebook_of(pod: PodView) -> ContainerView | None:
    """Return the container with the server: the one named notebook, else the first; None before there is any."""
    named = (container for container in pod.containers if container.name == "notebook")
    return next(named, pod.containers[0] if pod.containers else None)


def has_image(node: NodeView, reference: str) -> bool | None:
    """Return whether the node lists the image; None if it lists no more than it may, and this one is not among them."""
    if not reference:
        return None
    wanted = normalised(reference)
    if any(normalised(name) == wanted for names in node.images for name in names if name):
        return True
    return False if node.images_complete else None


def crash_problem(pod: PodView, policy: StartPolicy) -> Diagnosis | None:
    """Return the diagnosis of a container that ended too often; None as long as it may live."""
    for container in (*pod.init_containers, *pod.containers):
        times = _ends(container)
        if times and times >= policy.crashes:
            stage = Stage.SERVER_ANSWERING if container in pod.containers else Stage.STARTING
            code = container.exit_code if container.state == "terminated" else container.last_exit_code
            reason = container.reason if container.state == "terminated" else container.last_reason
            technical = f"container {container.name}: exit code {code}, {reason} {container.message}"
            end = refusals.crash(times, _exit_words(code, reason), technical)
            return Diagnosis(stage, "The server ends by itself again and again", refusal=end)
    return None


def pull_problem(pod: PodView, snapshot: StartSnapshot, policy: StartPolicy, since: float) -> Diagnosis | None:
    """Return the diagnosis of an image that cannot be pulled; None where none has failed. Slowness is no failure."""
    for container in (*pod.init_containers, *pod.containers):
        if container.state != "waiting":
            continue
        if container.reason in _NEVER_PULLED:
            why = _NEVER_PULLED[container.reason]
            end = refusals.image(_image_of(pod, container), why, f"{container.reason}: {container.message}")
            return Diagnosis(Stage.PULLING_IMAGE, "The image cannot be pulled", why, since=since, refusal=end)
        if container.reason in _PULL_FAILS:
            return _failing_pull(pod, container, snapshot, policy, since)
    return None


def create_problem(pod: PodView, snapshot: StartSnapshot, policy: StartPolicy, since: float) -> Diagnosis | None:
    """Return the diagnosis of a container that cannot be created; None where none has failed."""
    for container in (*pod.init_containers, *pod.containers):
        if container.state == "waiting" and container.reason in _CREATE_FAILS:
            failed = [event.first_at or event.at for event in snapshot.events if event.reason == "Failed"]
            began = min((at for at in failed if at is not None), default=since)
            technical = f"container {container.name}: {container.reason} {container.message}"
            end = refusals.not_created(technical) if snapshot.now - began > policy.image_s else None
            words = "The container cannot be created, it is tried again"
            return Diagnosis(Stage.STARTING, words, since=began, refusal=end)
    return None


def stage_of(pod: PodView, snapshot: StartSnapshot, node: NodeView | None, since: float) -> Diagnosis:
    """Return the stage of a pod whose containers have no problem."""
    notebook = notebook_of(pod)
    if snapshot.server_answered:
        return Diagnosis(Stage.SERVER_ANSWERING, "The server answers")
    if notebook is not None and notebook.state == "running":
        words = "Starting the server"
        if notebook.restarts:
            words = f"Starting the server again, it ended by itself {_times(notebook.restarts)}"
        return Diagnosis(Stage.SERVER_ANSWERING, words, since=notebook.started_at)
    if notebook is not None and _ends(notebook):
        words = f"The server ended by itself {_times(_ends(notebook))} and is started again"
        return Diagnosis(Stage.SERVER_ANSWERING, words, _exit_words(notebook.last_exit_code, notebook.last_reason))
    if any(container.state == "running" for container in pod.init_containers):
        return Diagnosis(Stage.STARTING, "Preparing the server", since=since)
    began = _pulling_since(pod, snapshot, node)
    if began is not None:
        return Diagnosis(Stage.PULLING_IMAGE, "Pulling the image", pod.images[0] if pod.images else "", since=began)
    detail = ""
    if snapshot.events and snapshot.events[-1].reason == "FailedCreatePodSandBox":
        detail = "the machine's network is not ready yet"
    told = any(event.reason in _KUBELET_SAID for event in snapshot.events)
    told = told or (node is not None and bool(pod.images) and has_image(node, pod.images[0]) is True)
    # Until the kubelet has spoken a pull may follow, and a stage that was told cannot be taken back.
    stage = Stage.STARTING if told or snapshot.now - since > _KUBELET_SPEAKS_S else Stage.SCHEDULING
    return Diagnosis(stage, "Starting the container", detail, since=since)


def _failing_pull(
    pod: PodView, container: ContainerView, snapshot: StartSnapshot, policy: StartPolicy, since: float
) -> Diagnosis:
    failed = [event for event in snapshot.events if event.reason == "Failed" and "pull image" in event.message]
    times = sum(event.count for event in failed)
    texts = (container.message, *(event.message for event in failed))
    began = min((at for event in failed if (at := event.first_at or event.at) is not None), default=None)
    if began is None:
        # Without events: whatever was pulled, was pulled after this.
        sandbox = pod.conditions.get("PodReadyToStartContainers")
        began = (sandbox.since if sandbox is not None and sandbox.true else None) or since
    waited = snapshot.now - began
    why, hopeless = _why(texts)
    lasting = waited > policy.image_s and (
        times > 1 or waited > 2 * policy.image_s or container.reason != "ErrImagePull"
    )
    end = None
    if lasting or (hopeless and times > 1):
        end = refusals.image(_image_of(pod, container), why, next(filter(None, reversed(texts)), ""))
    return Diagnosis(
        Stage.PULLING_IMAGE, "The image cannot be pulled, it is tried again", why, since=began, refusal=end
    )


def _why(texts: tuple[str, ...]) -> tuple[str, bool]:
    """Why a pull fails, and whether another try is of no use."""
    told = " ".join(texts)
    if any(words in told for words in _NO_ACCESS):
        # A registry may say the same of an image that it does not have, and a secret may come late.
        return "the registry does not give it to this hub", False
    if any(words in told for words in _NOT_THERE):
        return "there is no image of this name and tag", True
    return "the registry cannot be reached or answers with an error", False


def _image_of(pod: PodView, container: ContainerView) -> str:
    names = [one.name for one in pod.containers]
    place = names.index(container.name) if container.name in names else -1
    return one_line(pod.images[place], 200) if 0 <= place < len(pod.images) else ""


def _pulling_since(pod: PodView, snapshot: StartSnapshot, node: NodeView | None) -> float | None:
    """When the pull began that is under way; None if there is none."""
    said: list[EventView] = [event for event in snapshot.events if event.reason in ("Pulling", "Pulled")]
    if said:
        return (said[-1].first_at or said[-1].at or snapshot.now) if said[-1].reason == "Pulling" else None
    # Events get lost. With the sandbox there and the image missing, it must be on its way.
    sandbox = pod.conditions.get("PodReadyToStartContainers")
    missing = node is not None and bool(pod.images) and has_image(node, pod.images[0]) is False
    return (sandbox.since or snapshot.now) if missing and sandbox is not None and sandbox.true else None


def _ends(container: ContainerView) -> int:
    """How often it ended by itself, the last end included that is not yet followed by a start."""
    ended = container.state == "terminated" and container.exit_code != 0
    return container.restarts + (1 if ended or container.reason == "CrashLoopBackOff" else 0)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _exit_words(code: int | None, reason: str) -> str:
    if reason == "OOMKilled":
        return "It used more memory than it has."
    if code is None or code == 0:
        return ""
    return _EXITS.get(code, f"Its exit code was {code}.")
