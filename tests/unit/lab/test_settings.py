"""Lab settings: what is read back is what was written, and flags say what they want."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from gpu_launcher.lab.paths import LabError, LabPaths
from gpu_launcher.lab.settings import (
    LabSettings,
    parse_gib,
    parse_percent,
    parse_rate,
    parse_ratio,
    parse_seconds,
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    settings = LabSettings.fast(images={"quay.io/a:1": 7}, zones=("us-east-1b",), allocatable_skew=-0.02)
    settings.write(tmp_path / "settings.json")
    assert LabSettings.read(tmp_path / "settings.json") == settings
    assert LabSettings.from_document(json.loads(json.dumps(LabSettings().document()))) == LabSettings()


def test_fast_keeps_every_delay_but_short() -> None:
    fast, usual = LabSettings.fast(), LabSettings()
    assert 0 < fast.boot_s < usual.boot_s
    assert 0 < fast.device_plugin_s < usual.device_plugin_s
    assert fast.pull_rate > usual.pull_rate


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("boot_s", -1),
        ("boot_s", math.nan),
        ("pull_rate", 0),
        ("allocatable_skew", 0.6),
        ("spot_ratio", 0),
        ("disk_gib", 1),
        ("zones", ()),
        ("karpenter_log_level", "loud"),
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: object) -> None:
    with pytest.raises(LabError, match=f"{name}.*; use "):
        LabSettings.fast(**{name: value})


def test_an_unknown_key_is_named_with_the_known_ones() -> None:
    with pytest.raises(LabError, match=r"unknown key 'bot_s'; known: .*boot_s"):
        LabSettings.from_document({"bot_s": 3})


def test_a_missing_or_broken_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("{")
    for name in ("none", "broken"):
        with pytest.raises(LabError, match="gpu-launcher lab up"):
            LabSettings.read(tmp_path / name)


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_seconds, "45s", 45.0),
        (parse_seconds, "500ms", 0.5),
        (parse_seconds, "1.5m", 90.0),
        (parse_seconds, "45", 45.0),
        (parse_rate, "200MB/s", 200e6),
        (parse_rate, "1.5GB", 1.5e9),
        (parse_percent, "-2%", -0.02),
        (parse_percent, "+2.5%", 0.025),
        (parse_gib, "200Gi", 200),
        (parse_gib, "100", 100),
        (parse_ratio, "0.4", 0.4),
    ],
)
def test_flags_are_read(parse: object, text: str, value: float) -> None:
    assert callable(parse)
    assert parse(text) == pytest.approx(value)


@pytest.mark.parametrize("parse", [parse_seconds, parse_rate, parse_percent, parse_gib, parse_ratio])
@pytest.mark.parametrize("text", ["", "fast", "-1s", "nan", "1e400", "٤s", "1_0s", "0x1", "4 s", "inf"])
def test_flags_that_mean_nothing_are_refused_with_the_form(parse: object, text: str) -> None:
    assert callable(parse)
    with pytest.raises(ValueError, match="write a"):
        parse(text)


@pytest.mark.parametrize("name", ["", "..", "a/b", "-a", "A", "a" * 41, "a\n"])
def test_a_name_cannot_leave_the_root(name: str) -> None:
    with pytest.raises(LabError, match="--name"):
        LabPaths.named(name)
