"""Switching faults: what lies in the file is what was said, whole at every moment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpu_launcher.lab.faults import CapacityFault, CapacityKind, Faults, FaultSet, PodFault, PodFaultKind, SlowPull
from gpu_launcher.lab.paths import LabError


@pytest.fixture
def faults(tmp_path: Path) -> Faults:
    return Faults(tmp_path / "faults.json")


def test_nothing_is_switched_on_at_first(faults: Faults) -> None:
    assert faults.current() == FaultSet()


def test_switches_add_up_until_cleared(faults: Faults) -> None:
    faults.ice(capacity_type="spot")
    faults.quota("p5.*", zone="us-east-1a")
    faults.never_register("g5.*")
    faults.gpu_never_advertised()
    faults.pod("image_not_found", image="*/broken:*", pod="jupyter-*")
    faults.slow_pull("*/huge:*", 20)
    assert faults.current() == FaultSet(
        capacity=(
            CapacityFault(capacity_type="spot"),
            CapacityFault("p5.*", zone="us-east-1a", kind=CapacityKind.QUOTA),
        ),
        never_register=("g5.*",),
        gpu_never_advertised=("*",),
        pods=(PodFault(PodFaultKind.IMAGE_NOT_FOUND, "*/broken:*", "jupyter-*"),),
        slow_pulls=(SlowPull("*/huge:*", 20),),
    )
    faults.clear()
    assert faults.current() == FaultSet()


def test_the_file_has_the_form_that_the_other_processes_read(faults: Faults) -> None:
    faults.ice("g5.*", capacity_type="spot")
    faults.pod("evict")
    assert json.loads(faults.path.read_text()) == {
        "capacity": [{"instance_type": "g5.*", "zone": "*", "capacity_type": "spot", "kind": "ice"}],
        "never_register": [],
        "gpu_never_advertised": [],
        "pods": [{"image": "*", "pod": "*", "kind": "evict"}],
        "slow_pulls": [],
    }
    assert [path.name for path in faults.path.parent.iterdir()] == ["faults.json"]


def test_a_pod_meets_the_first_fault_that_is_meant_for_it() -> None:
    faults = FaultSet(
        pods=(
            PodFault(PodFaultKind.EVICT, pod="jupyter-ann*"),
            PodFault(PodFaultKind.CRASH_BEFORE_READY, image="*/lab:2"),
        )
    )
    assert faults.pod_fault("jupyter-ann", "quay.io/jupyter/lab:2") == faults.pods[0]
    assert faults.pod_fault("jupyter-bob", "quay.io/jupyter/lab:2") == faults.pods[1]
    assert faults.pod_fault("jupyter-bob", "quay.io/jupyter/lab:1") is None


def test_a_silent_device_plugin_is_a_matter_of_the_type() -> None:
    faults = FaultSet(gpu_never_advertised=("g5.*",))
    assert not faults.advertises_gpus("g5.xlarge")
    assert faults.advertises_gpus("g6.xlarge")


def test_a_slow_pull_is_a_matter_of_the_image_and_the_slowest_one_counts() -> None:
    faults = FaultSet(slow_pulls=(SlowPull("*/huge:*", 20), SlowPull("quay.io/*", 5)))
    assert faults.pull_s("quay.io/huge:1") == 20
    assert faults.pull_s("quay.io/small:1") == 5
    assert faults.pull_s("ghcr.io/small:1") == 0


@pytest.mark.parametrize("glob", ["", "g[56].*", "g5\\.*"])
def test_globs_that_python_and_go_read_differently_are_refused(faults: Faults, glob: str) -> None:
    with pytest.raises(LabError, match="no glob of names"):
        faults.ice(glob)
    with pytest.raises(LabError, match="no glob of names"):
        faults.never_register(glob)


def test_words_that_mean_nothing_are_refused(faults: Faults) -> None:
    with pytest.raises(LabError, match="on-demand, spot, reserved"):
        faults.ice(capacity_type="Spot")
    with pytest.raises(LabError, match="image_not_found, crash_before_ready"):
        faults.pod("explode")
    with pytest.raises(LabError, match="more than 0, and an end"):
        faults.slow_pull("*", 0)


@pytest.mark.parametrize(
    "document", [{"capacity": [{"type": "g5"}]}, {"pods": [{}]}, {"capacity": [{"kind": "no"}]}, {"slow_pulls": [{}]}]
)
def test_a_file_written_by_hand_fails_with_the_remedy(document: dict[str, object]) -> None:
    with pytest.raises(LabError, match=r"switch faults with lab\.faults"):
        FaultSet.from_document(document)
