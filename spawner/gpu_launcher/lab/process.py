"""Real processes that cannot outlive their lab, and the search for those that did."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MARKER = "GPU_LAUNCHER_LAB"
"""Environment variable that every process of a lab carries: the lab's absolute directory."""

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
# A killed process needs a moment to leave /proc; longer means that it hangs in the kernel and waiting does not help.
_VANISH_S = 5.0


def die_with_parent(signal_number: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """What a process that we start must do first: ``signal_number`` ends it when its starter ends, however that ends.

    To be called by the starter, for ``preexec_fn``. The starter is the thread, as far as the kernel is concerned.
    """
    starter = os.getpid()

    def bind() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
        # It may have ended before the kernel was told; then no signal would ever come.
        if os.getppid() != starter:
            os.kill(os.getpid(), signal_number)

    return bind


@dataclass(slots=True)
class Child:
    """A process of the lab that this event loop started. Its group holds whatever it started itself."""

    name: str
    log: Path
    process: asyncio.subprocess.Process

    @property
    def pid(self) -> int:
        """Process id, and the id of its process group and session."""
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self.process.returncode

    async def wait(self) -> int:
        """The exit status, once it has ended."""
        return await self.process.wait()

    async def stop(self, grace_s: float = 5.0) -> int:
        """The exit status after SIGTERM, ``grace_s`` seconds and SIGKILL to the whole group."""
        if self.process.returncode is None:
            signal_group(self.pid, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), grace_s)
        # What the process left behind in its group goes as well.
        signal_group(self.pid, signal.SIGKILL)
        return await self.process.wait()


async def start(
    argv: Sequence[str | os.PathLike[str]],
    *,
    log: Path,
    lab: Path,
    env: Mapping[str, str],
    cwd: Path | None = None,
    name: str | None = None,
) -> Child:
    """A started process: own session, output appended to ``log``, killed by the kernel when this thread dies.

    ``env`` is its whole environment, the marker is added. Raises ``OSError`` when the program cannot be run.
    """
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env={**env, MARKER: str(lab)},
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
    return Child(name or log.stem, log, process)


def signal_group(group: int, signal_number: signal.Signals) -> None:
    """Signal a process group; one that is gone already is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal_number)


def start_time(pid: int) -> int | None:
    """Kernel clock ticks at which ``pid`` started; None when there is no such process or it is a zombie.

    With the pid it names one process for good: pids are used again, the pair is not.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def is_alive(pid: int, started: int) -> bool:
    """Whether the very process that started at ``started`` still runs."""
    return start_time(pid) == started


def marked(lab: Path) -> Iterator[int]:
    """The pids of all processes that carry the marker of ``lab``, this process excepted."""
    wanted = f"{MARKER}={lab}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue  # gone meanwhile, or another user's
        if wanted in environment.split(b"\0"):
            yield int(entry.name)


def clean(lab: Path) -> int:
    """The number of leftover processes of ``lab`` that were killed; waits until none is left.

    Repeats, because a process may start another between the search and the kill.
    """
    killed: set[int] = set()
    deadline = time.monotonic() + _VANISH_S
    while (pids := [pid for pid in marked(lab) if start_time(pid) is not None]) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed.update(pids)
        time.sleep(0.02)
    return len(killed)


def tail(log: Path, lines: int = 15) -> list[str]:
    """The last lines of a log, empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 64 * 1024))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []


def hint(log: Path, lines: int = 15) -> str:
    """Words that point to ``log`` and show its end."""
    end = "\n".join(f"  | {line[:400]}" for line in tail(log, lines))
    return f"see {log}" + (f"; its last lines:\n{end}" if end else " (it is empty)")
