"""Building once: two at a time do not collide, an interruption is taken up again, a failure names its log."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from gpu_launcher.lab.build import Build, Program, Servers
from gpu_launcher.lab.paths import LabError, cache_root
from gpu_launcher.lab.progress import Display, Step

pytestmark = pytest.mark.lab

PROGRAMS = tuple(Program(name, "tiny", f"./{name}", 1) for name in ("first", "second"))


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """A module of two tiny programs and a servers cache of its own; Go's caches are the usual ones."""
    usual = cache_root() / "go"
    usual.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cache_root().mkdir(parents=True)
    (cache_root() / "go").symlink_to(usual)
    module = tmp_path / "go" / "tiny"
    for program in PROGRAMS:
        (module / program.name).mkdir(parents=True)
        (module / program.name / "main.go").write_text("package main\n\nfunc main() {}\n")
    (module / "go.mod").write_text("module tiny.invalid\n\ngo 1.26\n")
    return Build(PROGRAMS, (), tmp_path / "go")


class Screen:
    """Displays that write into one text."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def __call__(self, steps: Sequence[Step]) -> Display:
        return Display(steps, self.stream)

    @property
    def text(self) -> str:
        return self.stream.getvalue()


def test_two_builds_at_once_build_once(tiny: Build) -> None:
    screens = [Screen(), Screen()]
    found: list[Servers] = []
    threads = [threading.Thread(target=lambda s=screen: found.append(tiny.ensure(s))) for screen in screens]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert found[0] == found[1]
    assert Path(found[0].program("second")).stat().st_mode & 0o111
    builder, waiter = sorted((screen.text for screen in screens), key=len, reverse=True)
    assert "[1/2] building first" in builder
    assert waiter == "Another build of the lab's servers is running: waiting for it\n"


def test_an_interrupted_build_goes_on_where_it_was(tiny: Build) -> None:
    servers = tiny.ensure(Screen())
    second = Path(servers.program("second"))
    first_built = Path(servers.program("first")).stat().st_mtime_ns
    # What an interruption leaves: a program that is not there, a half of it under another name.
    second.rename(second.with_name(".second.part"))
    screen = Screen()
    tiny.ensure(screen)
    assert "[1/1] building second" in screen.text
    assert second.is_file()
    assert Path(servers.program("first")).stat().st_mtime_ns == first_built
    silent = Screen()
    tiny.ensure(silent)
    assert silent.text == ""


def test_a_failure_names_the_log_and_shows_its_end(tiny: Build) -> None:
    (tiny.sources / "tiny" / "second" / "main.go").write_text("package main\n\nfunc main() { nonsense }\n")
    with pytest.raises(LabError, match=r"building second failed .*second\.failed\.log(.|\n)*undefined: nonsense"):
        tiny.ensure(Screen())
