"""Who holds which GPUs, from pods and from starts in flight."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_launcher.domain.identity import label_hash
from gpu_launcher.domain.usage import RunningServer
from gpu_launcher.hub.usage import Holder, Reservations

ADA, BOB = label_hash("ada"), label_hash("bob")


def pod(user: str = ADA, gpus: object = "1", phase: str = "Running", **labels: str) -> dict[str, Any]:
    return {
        "metadata": {
            "labels": {"gpu-launcher/user": user, "gpu-launcher/instance": "here", "gpu-launcher/profile": "a10g"}
            | labels,
            "annotations": {"hub.jupyter.org/servername": "train", "gpu-launcher/groups": '["research"]'},
        },
        "spec": {"containers": [{"resources": {"limits": {"nvidia.com/gpu": gpus}}}]},
        "status": {"phase": phase},
    }


def usage(pods: dict[str, Any], reservations: Reservations | None = None, without: str = "") -> Any:
    return (reservations or Reservations()).usage(pods, user=ADA, instance="here", without=without)


def test_o12_own_servers_have_names_and_others_count() -> None:
    seen = usage({"ns/a": pod(), "ns/b": pod(BOB, "2")})
    assert seen.own == (RunningServer("train", 1, "a10g", frozenset({"research"})),)
    assert seen.total == 3


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_ended_pods_hold_nothing(phase: str) -> None:
    assert usage({"ns/a": pod(phase=phase)}).total == 0


def test_h2_pods_of_another_instance_in_the_namespace_are_not_counted() -> None:
    assert usage({"ns/a": pod(**{"gpu-launcher/instance": "there"})}).total == 0


def test_pods_from_before_the_launcher_count_by_their_user() -> None:
    old = pod()
    old["metadata"] = {"labels": None, "annotations": {"hub.jupyter.org/username": "ada"}}
    assert usage({"ns/a": old}).own == (RunningServer("", 1),)


def test_o12_a_start_in_flight_counts_until_its_pod_is_seen() -> None:
    reservations = Reservations()
    reservations.hold("ns/a", Holder(ADA, RunningServer("", 1, "a10g")))
    assert usage({}, reservations).total == 1
    assert usage({"ns/a": pod(gpus="1")}, reservations).total == 1
    assert usage({}, reservations, without="ns/a").total == 0, "the server that starts does not stand in its own way"
    reservations.release("ns/a")
    reservations.release("ns/a")
    assert usage({}, reservations).total == 0


@pytest.mark.parametrize("amount", [None, "", "1.5", "-1", "\uff11", [], {}])
def test_h9_malformed_pods_hold_nothing_and_raise_nothing(amount: object) -> None:
    assert usage({"ns/a": pod(gpus=amount), "ns/b": {}, "ns/c": {"metadata": None, "spec": None}}).total == 0


@pytest.mark.parametrize("groups", ["", "{", "1", '{"a": 1}', "[1, null]"])
def test_h9_malformed_groups_are_no_groups(groups: str) -> None:
    broken = pod()
    broken["metadata"]["annotations"]["gpu-launcher/groups"] = groups
    assert usage({"ns/a": broken}).own[0].groups == frozenset()
