"""What the stand-in kubelet reports, by the rules of the real one."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_launcher.lab.kubelet.status import (
    Container,
    Running,
    Terminated,
    Verdict,
    Waiting,
    back_off_s,
    conditions,
    container_status,
    phase_of,
    restarts,
)

THEN, NOW = "2026-01-01T00:00:00Z", "2026-01-01T00:00:09Z"
RUNNING = Container("a", "x", Running(THEN), ready=True)
WAITING = Container("a", "x")
DONE = Container("a", "x", Terminated(0, THEN, NOW))
FAILED = Container("a", "x", Terminated(1, THEN, NOW))
LOOPING = Container("a", "x", Waiting("CrashLoopBackOff"), last=Terminated(1, THEN, NOW), restarts=3)


@pytest.mark.parametrize(
    ("policy", "init", "main", "phase"),
    [
        ("Always", [], [WAITING], "Pending"),
        ("Always", [], [RUNNING], "Running"),
        ("Always", [], [RUNNING, WAITING], "Pending"),
        ("Always", [], [LOOPING], "Running"),
        ("Always", [], [DONE], "Running"),
        ("OnFailure", [], [DONE], "Succeeded"),
        ("OnFailure", [], [FAILED], "Running"),
        ("OnFailure", [], [LOOPING], "Running"),
        ("Never", [], [DONE, FAILED], "Failed"),
        ("Never", [], [DONE, RUNNING], "Running"),
        ("Never", [FAILED], [WAITING], "Failed"),
        ("OnFailure", [FAILED], [WAITING], "Pending"),
        ("Never", [DONE], [WAITING], "Pending"),
        ("Never", [DONE], [DONE], "Succeeded"),
    ],
)
def test_phase(policy: str, init: list[Container], main: list[Container], phase: str) -> None:
    assert phase_of(policy, init, main) == phase


@pytest.mark.parametrize(
    ("policy", "code", "init", "again"),
    [
        ("Always", 0, False, True),
        ("OnFailure", 0, False, False),
        ("OnFailure", 1, False, True),
        ("Never", 1, False, False),
        ("Always", 0, True, False),
        ("Always", 1, True, True),
        ("Never", 1, True, False),
    ],
)
def test_restarts(policy: str, code: int, init: bool, again: bool) -> None:
    assert restarts(policy, code, init=init) is again


def test_back_off_doubles_from_ten_seconds_to_five_minutes() -> None:
    assert [back_off_s(crashes) for crashes in range(1, 9)] == [0, 10, 20, 40, 80, 160, 300, 300]


def found(container: Container, verdict: Verdict | None = None, previous: Any = ()) -> Any:
    phase = "Failed" if verdict else phase_of("Always", [], [container])
    before = {item["type"]: item for item in previous}
    result = conditions(phase, [], [container], sandbox=True, verdict=verdict, now=NOW, previous=before)
    return {item["type"]: item for item in result}


def test_ready_follows_the_containers() -> None:
    assert found(RUNNING)["Ready"]["status"] == "True"
    unready = found(WAITING)["Ready"]
    assert (unready["status"], unready["reason"]) == ("False", "ContainersNotReady")
    assert unready["message"] == "containers with unready status: [a]"


def test_a_reason_does_not_outlive_its_condition() -> None:
    # A strategic merge patch keeps what it does not mention.
    assert found(RUNNING)["Ready"]["reason"] is None


def test_transition_times_move_only_with_the_status() -> None:
    before = [{"type": "Ready", "status": "True", "lastTransitionTime": THEN}]
    assert found(RUNNING, previous=before)["Ready"]["lastTransitionTime"] == THEN
    assert found(WAITING, previous=before)["Ready"]["lastTransitionTime"] == NOW


def test_an_eviction_is_a_disruption() -> None:
    evicted = found(RUNNING, Verdict("Evicted", "disk", evicted=True))
    assert evicted["Ready"]["reason"] == "PodFailed"
    assert evicted["DisruptionTarget"]["reason"] == "TerminationByKubelet"
    assert "DisruptionTarget" not in found(RUNNING, Verdict("UnexpectedAdmissionError", "no device"))


def test_a_crash_loop_shows_its_last_end() -> None:
    status = container_status(LOOPING)
    assert status["state"] == {"waiting": {"reason": "CrashLoopBackOff"}}
    assert status["lastState"]["terminated"]["exitCode"] == 1
    assert status["lastState"]["terminated"]["reason"] == "Error"
    assert status["restartCount"] == 3
    assert status["started"] is False
