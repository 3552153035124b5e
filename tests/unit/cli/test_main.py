"""The command line: exit statuses and words, without a lab."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from gpu_launcher.cli import main
from gpu_launcher.cli.lab import add_settings_flags, settings_from
from gpu_launcher.lab.settings import LabSettings


@pytest.fixture(autouse=True)
def no_labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def parsed(*flags: str) -> LabSettings:
    parser = argparse.ArgumentParser()
    add_settings_flags(parser)
    return settings_from(parser.parse_args(flags))


def test_flags_become_settings_and_win_over_fast() -> None:
    assert parsed() == LabSettings()
    assert parsed("--fast", "--boot", "9s") == LabSettings.fast(boot_s=9.0)
    assert parsed("--pull-rate", "50MB/s", "--allocatable-skew=-2%").allocatable_skew == -0.02


@pytest.mark.parametrize(
    "arguments", [["lab", "up", "--boot", "soon"], ["lab"], ["lab", "fly"], [], ["lab", "up", "--disk", "1.5Gi"]]
)
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_bad_flag_shows_the_form(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["lab", "up", "--boot", "soon"])
    assert "write a time such as 45s" in capsys.readouterr().err


def test_a_lab_that_does_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "status", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"stage": "down"}
    assert main(["lab", "kubeconfig"]) == 1
    assert "gpu-launcher lab up --name default" in capsys.readouterr().err
    assert main(["lab", "down"]) == 0
    assert main(["lab", "list"]) == 0
    assert main(["lab", "status", "--name", "../x"]) == 1


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing(_: argparse.Namespace) -> int:
        raise ModuleNotFoundError("No module named 'cryptography'", name="cryptography.x509")

    monkeypatch.setattr("gpu_launcher.cli.lab._list", missing)
    assert main(["lab", "list"]) == 2
    assert "pip install 'jupyterhub-gpu-launcher[lab]'" in capsys.readouterr().err


def test_another_missing_module_is_a_defect_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: argparse.Namespace) -> int:
        raise ModuleNotFoundError("No module named 'gpu_launcher.oops'", name="gpu_launcher.oops")

    monkeypatch.setattr("gpu_launcher.cli.lab._list", missing)
    with pytest.raises(ModuleNotFoundError):
        main(["lab", "list"])
