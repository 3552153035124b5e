"""What the lab tells the chart, and how values are put over each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_launcher.lab.install import find_chart, lab_values, merged
from gpu_launcher.lab.paths import LabError
from gpu_launcher.lab.settings import LabSettings


def test_values_go_over_mapping_by_mapping_and_lists_as_a_whole() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert merged(base, {"a": {"c": [3]}, "e": {"f": 1}}) == {"a": {"b": 1, "c": [3]}, "d": 1, "e": {"f": 1}}
    assert merged(base, {"a": None}) == {"a": None, "d": 1}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 1}


@pytest.mark.parametrize(("boot", "delay"), [(45, "45s"), (0.4, "1s"), (0, "0s")])
def test_the_node_class_boots_as_slowly_as_the_settings_say(boot: float, delay: str) -> None:
    values = lab_values(LabSettings(boot_s=boot, disk_gib=100))
    assert values["nodeClass"]["kwok"] == {"nodeRegistrationDelay": delay}
    assert values["settings"]["cluster"]["disk"] == "100Gi"


def test_the_chart_is_found_and_a_wrong_place_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (find_chart() / "values.yaml").is_file()
    monkeypatch.setenv("GPU_LAUNCHER_CHART", str(tmp_path))
    with pytest.raises(LabError, match=f"no chart in {tmp_path}"):
        find_chart()
