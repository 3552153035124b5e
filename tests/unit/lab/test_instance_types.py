"""What the lab's cloud sells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpu_launcher.domain.quantity import GIB, parse_bytes, parse_cpu
from gpu_launcher.lab.instance_types import Reservation, instance_types, write_instance_types, zone_id
from gpu_launcher.lab.paths import LabError
from gpu_launcher.lab.settings import LabSettings
from gpu_launcher.settings.catalogue import load_catalogue

SETTINGS = LabSettings(zones=("us-east-1a", "us-east-1c"), spot_ratio=0.5, disk_gib=100)
KINDS = {kind.name: kind for kind in load_catalogue()}


def sold(name: str, **options: Any) -> dict[str, Any]:
    (entry,) = instance_types([KINDS[name]], SETTINGS, **options)
    return entry


def test_karpenters_estimate_is_the_catalogues_allocatable_and_the_disk_is_the_node_classs() -> None:
    entry = sold("g5.xlarge")
    assert entry["allocatable"] == {
        "cpu": "3920m",
        "memory": "14162Mi",
        "ephemeral-storage": "89Gi",
        "pods": "58",
        "nvidia.com/gpu": "1",
    }
    assert parse_bytes(entry["capacity"]["ephemeral-storage"]) == 100 * GIB
    assert entry["capacity"]["cpu"] == "4"


@pytest.mark.parametrize("name", KINDS)
def test_every_capacity_holds_its_allocatable(name: str) -> None:
    entry = sold(name)
    for resource, parse in (("cpu", parse_cpu), ("memory", parse_bytes), ("ephemeral-storage", parse_bytes)):
        assert parse(entry["capacity"][resource]) >= parse(entry["allocatable"][resource])


def test_labels_are_those_of_awss_provider() -> None:
    labels = sold("p4de.24xlarge")["labels"]
    assert labels["kubernetes.io/arch"] == "amd64"
    assert labels["topology.kubernetes.io/region"] == "us-east-1"
    # The host's memory and the GPU's: the two that people mix up.
    assert labels["karpenter.k8s.aws/instance-memory"] == "1179648"
    assert labels["karpenter.k8s.aws/instance-gpu-memory"] == "81920"
    assert labels["karpenter.k8s.aws/instance-gpu-count"] == "8"
    assert labels["karpenter.k8s.aws/instance-gpu-manufacturer"] == "nvidia"


def test_types_without_gpu_or_disk_have_no_such_labels_and_sliced_gpus_count_zero() -> None:
    plain = sold("m6i.large")
    assert not any("gpu" in label or "nvme" in label for label in plain["labels"])
    assert "nvidia.com/gpu" not in plain["capacity"]
    sliced = sold("g6f.large")
    assert sliced["labels"]["karpenter.k8s.aws/instance-gpu-count"] == "0"
    assert "nvidia.com/gpu" not in sliced["capacity"]


def test_each_zone_sells_on_demand_and_spot() -> None:
    offers = {(offer["zone"], offer["capacity_type"]): offer["price"] for offer in sold("g5.xlarge")["offerings"]}
    assert offers == {
        ("us-east-1a", "on-demand"): 1.006,
        ("us-east-1a", "spot"): 0.503,
        ("us-east-1c", "on-demand"): 1.006,
        ("us-east-1c", "spot"): 0.503,
    }


def test_a_type_without_a_price_has_none_until_one_is_given() -> None:
    assert {offer["price"] for offer in sold("p5e.48xlarge")["offerings"]} == {None}
    assert {offer["price"] for offer in sold("p5e.48xlarge", prices={"p5e.48xlarge": 60.0})["offerings"]} == {
        60.0,
        30.0,
    }


def test_a_reservation_is_one_more_offering_in_its_zone() -> None:
    offers = sold("p5.48xlarge", reservations=[Reservation("cr-1", "p5.48xlarge", "us-east-1c", 2)])["offerings"]
    (reserved,) = [offer for offer in offers if offer["capacity_type"] == "reserved"]
    assert (reserved["zone"], reserved["reservation"], reserved["count"]) == ("us-east-1c", "cr-1", 2)


@pytest.mark.parametrize(
    ("reservation", "words"),
    [
        (Reservation("cr-1", "p9.large", "us-east-1a", 1), "no instance type 'p9.large'"),
        (Reservation("cr-1", "g5.xlarge", "us-east-1b", 1), "no zone 'us-east-1b'; zones: us-east-1a, us-east-1c"),
    ],
)
def test_an_impossible_reservation_is_named(reservation: Reservation, words: str) -> None:
    with pytest.raises(LabError, match=words):
        instance_types(load_catalogue(), SETTINGS, reservations=[reservation])


@pytest.mark.parametrize(
    ("zone", "expected"),
    [("us-east-1a", "use1-az1"), ("ap-northeast-2c", "apne2-az3"), ("eu-central-1b", "euc1-az2")],
)
def test_zone_ids_have_awss_form(zone: str, expected: str) -> None:
    assert zone_id(zone) == expected


def test_a_zone_of_another_form_is_refused() -> None:
    with pytest.raises(LabError, match="write an AWS zone such as us-east-1a"):
        zone_id("zone-1")


def test_the_file_holds_the_whole_catalogue(tmp_path: Path) -> None:
    write_instance_types(tmp_path / "types.json", LabSettings.fast())
    written = json.loads((tmp_path / "types.json").read_text())
    assert [entry["name"] for entry in written] == list(KINDS)
