"""The status of a pod as a kubelet reports it: pure functions of the containers' states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Raw = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not started: being created, or backing off."""

    reason: str = "ContainerCreating"
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """Started at a time written as the API writes it."""

    started_at: str


@dataclass(frozen=True, slots=True)
class Terminated:
    """Ended; a process killed by signal n has exit code 128+n."""

    exit_code: int
    started_at: str
    finished_at: str
    reason: str = ""
    message: str | None = None

    @property
    def why(self) -> str:
        return self.reason or ("Completed" if self.exit_code == 0 else "Error")


State = Waiting | Running | Terminated


@dataclass(frozen=True, slots=True)
class Container:
    """What the kubelet knows of one container."""

    name: str
    image: str
    state: State = Waiting()
    ready: bool = False
    restarts: int = 0
    last: Terminated | None = None
    image_id: str = ""
    container_id: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An end that the kubelet decided, not the containers: refused at admission, or evicted."""

    reason: str
    message: str
    evicted: bool = False


def container_status(container: Container) -> Raw:
    """One entry of `status.containerStatuses`."""
    return {
        "name": container.name,
        "image": container.image,
        "imageID": container.image_id,
        "containerID": container.container_id,
        "ready": container.ready,
        "started": isinstance(container.state, Running),
        "restartCount": container.restarts,
        "state": _state(container.state),
        "lastState": _state(container.last) if container.last else {},
    }


def _state(state: State) -> Raw:
    match state:
        case Waiting(reason, message):
            return {"waiting": {"reason": reason} | ({"message": message} if message else {})}
        case Running(started_at):
            return {"running": {"startedAt": started_at}}
        case Terminated():
            ended: Raw = {
                "exitCode": state.exit_code,
                "reason": state.why,
                "startedAt": state.started_at,
                "finishedAt": state.finished_at,
            }
            return {"terminated": ended | ({"message": state.message} if state.message else {})}


def succeeded(container: Container) -> bool:
    return isinstance(container.state, Terminated) and container.state.exit_code == 0


def phase_of(policy: str, init: Sequence[Container], main: Sequence[Container]) -> str:
    """The phase of a pod, by the kubelet's rules; `policy` is the pod's restartPolicy."""
    if any(not succeeded(item) for item in init):
        failed = any(isinstance(item.state, Terminated) and item.state.exit_code for item in init)
        return "Failed" if failed and policy == "Never" else "Pending"
    states = [item.state if not isinstance(item.state, Waiting) else item.last or item.state for item in main]
    if any(isinstance(state, Waiting) for state in states):
        return "Pending"
    if policy == "Always" or any(isinstance(item.state, Running) for item in main):
        return "Running"
    codes = [state.exit_code for state in states if isinstance(state, Terminated)]
    if not any(codes):
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"


def restarts(policy: str, exit_code: int, *, init: bool) -> bool:
    """True if a container that ended with `exit_code` is started again."""
    if init:
        return exit_code != 0 and policy != "Never"
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def back_off_s(crashes: int) -> float:
    """Seconds before start number `crashes` + 1: none after the first crash, then 10 s doubling up to 5 min."""
    return 0.0 if crashes < 2 else min(300.0, 10.0 * 2 ** (crashes - 2))


def conditions(
    phase: str,
    init: Sequence[Container],
    main: Sequence[Container],
    *,
    sandbox: bool,
    verdict: Verdict | None,
    now: str,
    previous: Mapping[str, Raw],
) -> list[Raw]:
    """The kubelet's conditions; a transition time moves only when a condition's status changes."""
    unready = [item.name for item in main if not item.ready]
    waiting_init = [item.name for item in init if not succeeded(item)]
    ready: Raw = {"status": "True"}
    if phase == "Succeeded":
        ready = {"status": "False", "reason": "PodCompleted"}
    elif phase == "Failed":
        ready = {"status": "False", "reason": "PodFailed"}
    elif unready:
        text = f"containers with unready status: [{' '.join(unready)}]"
        ready = {"status": "False", "reason": "ContainersNotReady", "message": text}
    initialized: Raw = {"status": "True"}
    if waiting_init:
        text = f"containers with incomplete status: [{' '.join(waiting_init)}]"
        initialized = {"status": "False", "reason": "ContainersNotInitialized", "message": text}
    found: list[Raw] = [
        {"type": "PodReadyToStartContainers", "status": str(sandbox)},
        {"type": "Initialized", **initialized},
        {"type": "Ready", **ready},
        {"type": "ContainersReady", **ready},
    ]
    if verdict is not None and verdict.evicted:
        why = {"reason": "TerminationByKubelet", "message": verdict.message}
        found.append({"type": "DisruptionTarget", "status": "True", **why})
    for condition in found:
        # None takes away what a patch would otherwise leave standing from the condition's last state.
        condition |= {"reason": condition.get("reason"), "message": condition.get("message")}
        before = previous.get(condition["type"])
        same = before is not None and before["status"] == condition["status"]
        condition["lastTransitionTime"] = before["lastTransitionTime"] if before and same else now
    return found
