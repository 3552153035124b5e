"""``gpu-launcher eta``: its table, its data, its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpu_launcher.cli import main
from gpu_launcher.domain.stage import Stage
from gpu_launcher.telemetry.records import dump_record, log_line
from stories import record

START = record((Stage.BOOTING, 40.0), (Stage.SERVER_ANSWERING, 5.0))


def test_a_simulation_prints_its_calibration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eta", "--simulate", "60", "--seed", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("60 starts, ")
    assert "before p90" in out
    assert "\nwhole start" in out
    assert "\n  pulling_image" in out
    assert out.endswith("Calibrated: wanted are 85-95 % before p90.\n")


def test_recorded_starts_from_a_log_or_from_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "hub.log"
    log.write_bytes(f"[I] {log_line(START)}\nnoise \xff\n{dump_record(START)}\n{{}}\n".encode("latin-1"))
    assert main(["eta", "--records", str(log), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["version"], data["starts"], data["ready"]) == (1, 2, 2)
    assert data["whole"]["predictions"] == 2
    assert data["whole"]["enough"] is False
    assert set(data["stages"]) == {"booting", "server_answering"}


def test_too_few_to_judge_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "hub.log"
    log.write_text(log_line(START))
    assert main(["eta", "--records", str(log)]) == 0
    assert "Too few starts to judge" in capsys.readouterr().out


def test_estimates_that_do_not_hold_are_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Each takes twice as long as the one before: no history can know that.
    log = tmp_path / "hub.log"
    starts = [record((Stage.BOOTING, 1.3**place), (Stage.SERVER_ANSWERING, 1.0)) for place in range(60)]
    log.write_text("\n".join(map(dump_record, starts)))
    assert main(["eta", "--records", str(log)]) == 1
    assert "Not calibrated" in capsys.readouterr().out


def test_no_starts_are_no_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "hub.log"
    empty.write_text("nothing here\n")
    assert main(["eta", "--records", str(empty)]) == 2
    assert main(["eta", "--records", str(tmp_path / "missing")]) == 2
    assert main(["eta", "--simulate", "0"]) == 2
    assert "no start records" in capsys.readouterr().err
