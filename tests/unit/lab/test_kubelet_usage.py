"""What a pod takes of its node's disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpu_launcher.lab.kubelet.usage import bytes_below, ephemeral_limit, exceeds


def spec(*limits: str | None) -> dict[str, Any]:
    return {
        "containers": [{"resources": {"limits": {"ephemeral-storage": limit}} if limit else {}} for limit in limits]
    }


@pytest.mark.parametrize(
    ("limits", "wanted"), [(("1Gi",), 2**30), (("1Gi", "1Mi"), 2**30 + 2**20), (("1Gi", None), None), ((None,), None)]
)
def test_the_limit_is_the_containers_sum(limits: tuple[str | None, ...], wanted: int | None) -> None:
    assert ephemeral_limit(spec(*limits)) == wanted


def test_only_more_than_the_limit_is_too_much() -> None:
    assert exceeds(spec("1Mi"), 2**20) is None
    assert exceeds(spec(None), 2**60) is None
    assert "of containers 1Mi." in (exceeds(spec("1Mi"), 2**20 + 1) or "")
    assert "of containers 2Gi." in (exceeds(spec("1Gi", "1Gi"), 2**40) or "")


def test_bytes_are_those_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"x" * 10_000)
    (tmp_path / "gone").symlink_to("nowhere")
    assert 10_000 <= bytes_below(tmp_path) < 40_000
