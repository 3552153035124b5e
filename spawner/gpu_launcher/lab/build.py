"""The servers of the lab, built once from pinned Go modules into the user's cache."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from gpu_launcher.lab import process
from gpu_launcher.lab.golang import Go, find_go
from gpu_launcher.lab.paths import LabError, cache_root
from gpu_launcher.lab.progress import Display, Step

KUBERNETES_VERSION = "v1.35.8"

_SOURCES = Path(__file__).parent / "go"
_SYMBOLS = "k8s.io/component-base/version"
_KUBERNETES_FLAGS = (
    f"-s -w -X {_SYMBOLS}.gitVersion={KUBERNETES_VERSION} -X {_SYMBOLS}.gitMajor=1 -X {_SYMBOLS}.gitMinor=35"
)
# What nobody used for so long was built from sources that are gone.
_PRUNE_AFTER_S = 30 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Program:
    """One program to build. ``seconds`` is its time with cold caches on two cores: the weight in the progress."""

    name: str
    module: str
    package: str
    seconds: float
    ldflags: str = "-s -w"


@dataclass(frozen=True, slots=True)
class Crds:
    """Where in the module ``path`` (a Go module path) the CRDs lie that a server needs."""

    module: str
    path: str
    files: tuple[str, ...]


# In this order: what is built first warms the caches for what follows.
PROGRAMS = (
    Program("etcd", "kubernetes", "go.etcd.io/etcd/server/v3", 66),
    Program("kube-apiserver", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", 249, _KUBERNETES_FLAGS),
    Program("kube-scheduler", "kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", 22, _KUBERNETES_FLAGS),
    Program(
        "kube-controller-manager", "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", 44, _KUBERNETES_FLAGS
    ),
    Program("karpenter", "karpenter", ".", 64),
    Program("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok", 158),
    Program("helm", "helm", "helm.sh/helm/v4/cmd/helm", 97),
)
CRDS = (
    Crds("karpenter", "sigs.k8s.io/karpenter", ("kwok/charts/crds/*.yaml", "kwok/apis/crds/*.yaml")),
    Crds("kwok", "sigs.k8s.io/kwok", ("kustomize/crd/bases/kwok.x-k8s.io_stages.yaml",)),
)


@dataclass(frozen=True, slots=True)
class Servers:
    """Built programs: module -> directory. Every directory is complete."""

    directories: Mapping[str, Path]
    modules: Mapping[str, str]

    def program(self, name: str) -> str:
        """The path of the program ``name``."""
        return str(self.directories[self.modules[name]] / name)

    @property
    def crds(self) -> list[Path]:
        """The directories that hold CRDs as JSON."""
        return [path / "crds" for path in self.directories.values() if (path / "crds").is_dir()]


@dataclass(frozen=True, slots=True)
class Build:
    """What is to be built, and from which sources."""

    programs: Sequence[Program] = PROGRAMS
    crds: Sequence[Crds] = CRDS
    sources: Path = _SOURCES

    def ensure(self, display: Callable[[Sequence[Step]], Display] = Display) -> Servers:
        """All servers; builds what is missing, shows how far it is, and waits for a build that runs already.

        Raises ``LabError`` that names the log and shows its end.
        """
        quiet = display(())
        go = find_go(quiet.say)
        servers = self.servers(go.version)
        if self.missing(servers):
            with _lock(quiet.say):
                missing = self.missing(servers)
                if missing:
                    self._build(go, servers, missing, display)
        self._touch(servers)
        return servers

    def servers(self, go_version: str) -> Servers:
        """Where the servers of these sources belong; they need not be built yet."""
        root = cache_root() / "servers"
        modules = sorted({program.module for program in self.programs})
        directories = {name: root / f"{name}-{self._key(name, go_version)}" for name in modules}
        return Servers(directories, {program.name: program.module for program in self.programs})

    def _key(self, module: str, go_version: str) -> str:
        flags = sorted(f"{item.name} {item.package} {item.ldflags}" for item in self.programs if item.module == module)
        return module_key(self.sources / module, "\n".join([go_version, *flags]))

    def missing(self, servers: Servers) -> list[Program]:
        """The programs that are not built yet, in the order to build them."""
        return [program for program in self.programs if not Path(servers.program(program.name)).exists()]

    def _build(
        self, go: Go, servers: Servers, missing: Sequence[Program], display: Callable[[Sequence[Step]], Display]
    ) -> None:
        steps = [Step(f"building {program.name}", program.seconds) for program in missing]
        screen = display(steps)
        log = cache_root() / "servers" / "build.log"
        environment = go.environment()
        began = time.monotonic()
        screen.say(f"Building the lab's servers with {go.version}, once; output in {log}")
        try:
            for program, step in zip(missing, steps, strict=True):
                screen.start(step)
                self._build_one(go, program, servers.directories[program.module], log, environment, screen)
                screen.finish()
        finally:
            screen.close()
        screen.say(f"Built {', '.join(program.name for program in missing)} in {time.monotonic() - began:.0f} s")
        prune(servers)

    def _build_one(
        self, go: Go, program: Program, directory: Path, log: Path, environment: Mapping[str, str], screen: Display
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        source = self.sources / program.module
        for crds in self.crds:
            if crds.module == program.module:
                # Before the program: its presence says that the directory is complete.
                _copy_crds(go, crds, source, directory / "crds", environment)
        part = directory / f".{program.name}.part"
        # -v names each package as it is compiled: the log is the sign of life.
        command = [
            str(go.program),
            "build",
            "-v",
            "-trimpath",
            "-ldflags",
            program.ldflags,
            "-o",
            str(part),
            program.package,
        ]
        with log.open("w") as output:
            output.write(f"# {program.name}: {program.package} in {source}\n")
            output.flush()
            code = _run(command, source, environment, output.fileno(), lambda: screen.tick(_last_word(log)))
        if code != 0:
            kept = log.with_name(f"build-{program.name}.failed.log")
            shutil.copyfile(log, kept)
            raise LabError(f"building {program.name} failed with status {code}: {process.hint(kept)}")
        part.replace(directory / program.name)

    def _touch(self, servers: Servers) -> None:
        for directory in servers.directories.values():
            with contextlib.suppress(OSError):
                os.utime(directory)


def module_key(module: Path, how: str) -> str:
    """A key that changes with anything that goes into a Go module's programs; ``how``: Go's version, the flags."""
    digest = hashlib.sha256(f"{how}\n".encode())
    for path in sorted([module / "go.mod", module / "go.sum", *module.rglob("*.go")]):
        if path.name.endswith("_test.go") or not path.exists():
            continue
        content = path.read_bytes()
        digest.update(f"{path.relative_to(module)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def prune(servers: Servers) -> list[Path]:
    """The directories of servers that were deleted because nobody used them for a month."""
    old: list[Path] = []
    for path in (cache_root() / "servers").iterdir():
        known = path in servers.directories.values() or not path.is_dir()
        if not known and time.time() - path.stat().st_mtime > _PRUNE_AFTER_S:
            shutil.rmtree(path, ignore_errors=True)
            old.append(path)
    return old


def _copy_crds(go: Go, crds: Crds, source: Path, target: Path, environment: Mapping[str, str]) -> None:
    # Copied, because the module cache may be pruned, and as JSON, because YAML of this size takes a second to read.
    listed = _go_list(go, crds.path, source, environment)
    target.mkdir(exist_ok=True)
    for pattern in crds.files:
        files = sorted(listed.glob(pattern))
        if not files:
            raise LabError(f"{crds.path}: no {pattern} in {listed}; the module's layout changed, adapt lab/build.py")
        for file in files:
            document = yaml.safe_load(file.read_text(encoding="utf-8"))
            part = target / f".{file.stem}.part"
            part.write_text(json.dumps(document), encoding="utf-8")
            part.replace(target / f"{file.stem}.json")


def _go_list(go: Go, module: str, source: Path, environment: Mapping[str, str]) -> Path:
    command = [str(go.program), "mod", "download", "-json", module]
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"downloading {module} failed: {(done.stderr or done.stdout).strip()[-800:]}")
    return Path(json.loads(done.stdout)["Dir"])


def _run(
    command: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    output: int,
    tick: Callable[[], None],
) -> int:
    # Killed with us: a build that lives on would write the same files as the next one, which finds the lock free.
    running = subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=output, stderr=output, preexec_fn=process.die_with_parent()
    )
    try:
        while True:
            try:
                return running.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                tick()
    finally:
        if running.poll() is None:
            running.terminate()
            running.wait()


def _last_word(log: Path) -> str:
    lines = process.tail(log, 1)
    return lines[0].removeprefix("go: ") if lines and not lines[0].startswith("#") else ""


@contextlib.contextmanager
def _lock(say: Callable[[str], None]) -> Iterator[None]:
    root = cache_root() / "servers"
    root.mkdir(parents=True, exist_ok=True)
    with (root / "build.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another build of the lab's servers is running: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
