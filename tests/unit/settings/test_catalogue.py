"""The table of instance types: equal to its facts, and read as the domain expects it."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from gpu_launcher.domain.instance_type import InstanceType
from gpu_launcher.domain.quantity import MIB
from gpu_launcher.domain.resources import Resources
from gpu_launcher.settings.catalogue import load_catalogue

TOOL = Path(__file__).parents[2] / "tools" / "make_catalogue.py"
Check = Callable[[], int]


@pytest.fixture
def check() -> Check:
    module = runpy.run_path(str(TOOL))
    return lambda: module["main"](["--check"])


def test_the_table_equals_the_shared_facts(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    code = check()
    words = capsys.readouterr().err
    assert code == 0, words
    if words.startswith("skipped"):
        pytest.skip(words.strip())


def test_the_check_is_skipped_aloud_where_the_facts_are_absent(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GPU_LAUNCHER_SHARED", str(tmp_path))
    assert check() == 0
    assert re.match("skipped: .*set GPU_LAUNCHER_SHARED", capsys.readouterr().err)


def test_the_check_fails_for_other_facts(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "facts").mkdir()
    (tmp_path / "facts" / "aws_instance_types.json").write_text("[]")
    monkeypatch.setenv("GPU_LAUNCHER_SHARED", str(tmp_path))
    assert check() == 1
    assert "run python tests/tools/make_catalogue.py" in capsys.readouterr().err


def test_a_type_is_read_whole() -> None:
    kind = {kind.name: kind for kind in load_catalogue()}["g5.12xlarge"]
    assert kind.allocatable == Resources(cpu_m=47810, memory=173400 * MIB, gpus=4)
    assert kind.gpu is not None
    assert (kind.gpu.name, kind.gpu.count, kind.gpu.memory_mib) == ("a10g", 4, 22888)
    assert (kind.family, kind.size, kind.category, kind.generation) == ("g5", "12xlarge", "g", "5")
    assert (kind.vcpu, kind.memory_mib, kind.pods, kind.local_nvme_gb) == (48, 196608, 737, 3800)
    assert kind.usd_per_hour == 5.672


def test_sliced_gpus_count_as_none_and_unknown_prices_stay_unknown() -> None:
    kinds = {kind.name: kind for kind in load_catalogue()}
    assert kinds["g6f.large"].gpus == 0
    assert kinds["g6f.large"].gpu is not None
    assert kinds["gr6f.4xlarge"].category == "gr"
    assert kinds["p5e.48xlarge"].usd_per_hour is None


@pytest.mark.parametrize("kind", load_catalogue(), ids=lambda kind: kind.name)
def test_every_type_gives_less_than_it_has(kind: InstanceType) -> None:
    assert min(kind.capacity - kind.allocatable) >= 0
    assert kind.pods > 0


def test_names_are_unique_and_the_table_is_read_once() -> None:
    assert len({kind.name for kind in load_catalogue()}) == len(load_catalogue()) == 74
    assert load_catalogue() is load_catalogue()
