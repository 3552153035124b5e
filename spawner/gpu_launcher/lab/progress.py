"""How far a build is: the step it is at and the time left, rescaled by the speed seen so far."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TextIO

# A log file gets a sign of life this often; more would bury what else is in it.
_LINE_EVERY_S = 30.0
_REFRESH_S = 0.5


@dataclass(frozen=True, slots=True)
class Step:
    """One step and how long it takes on the machine that it was measured on, in seconds."""

    name: str
    seconds: float


@dataclass(slots=True)
class Pace:
    """Elapsed against expected time. Steps that were done already do not count as speed."""

    remaining: list[Step]
    expected: float = 0.0
    spent: float = 0.0

    def done(self, step: Step, seconds: float) -> None:
        """Take note that ``step`` took ``seconds``."""
        self.remaining.remove(step)
        self.expected += step.seconds
        self.spent += seconds

    def skip(self, step: Step) -> None:
        """Take note that there was nothing to do for ``step``."""
        self.remaining.remove(step)

    def factor(self, current: Step | None = None, elapsed: float = 0.0) -> float:
        """How many times slower than the measured machine this one is; 1 while nothing is known.

        A step that overruns counts at once, or the time left would stand still.
        """
        seen = self.spent / self.expected if self.expected > 0 else 1.0
        if current is not None and elapsed > current.seconds * seen:
            return (self.spent + elapsed) / (self.expected + current.seconds)
        return seen

    def left(self, current: Step | None = None, elapsed: float = 0.0) -> float:
        """Seconds until the end, with ``current`` running for ``elapsed`` seconds."""
        factor = self.factor(current, elapsed)
        total = sum(step.seconds for step in self.remaining) * factor
        if current is None:
            return total
        # The running step is never quite over: it keeps a tenth of its time.
        own = current.seconds * factor
        return max(total - elapsed, total - own + 0.1 * own)


@dataclass(slots=True)
class Display:
    """One live line on a terminal; elsewhere one line per step and one every 30 s."""

    steps: Sequence[Step]
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    clock: Callable[[], float] = time.monotonic
    pace: Pace = field(init=False)
    _started: float = field(init=False, default=0.0)
    _shown: float = field(init=False, default=0.0)
    _current: Step | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.pace = Pace(list(self.steps))

    def say(self, text: str) -> None:
        """Show a line that stays."""
        self.stream.write(f"{self._clear()}{text}\n")
        self.stream.flush()

    def start(self, step: Step) -> None:
        """Begin ``step``."""
        self._current, self._started = step, self.clock()
        self._show(self._line(0.0, ""))

    def tick(self, detail: str = "") -> None:
        """Show that the step goes on; ``detail`` is what it does right now."""
        now = self.clock()
        if now - self._shown >= (_REFRESH_S if self.stream.isatty() else _LINE_EVERY_S):
            self._show(self._line(now - self._started, detail))

    def finish(self) -> None:
        """End the step that began last."""
        if self._current is not None:
            self.pace.done(self._current, self.clock() - self._started)
            self._current = None

    def close(self) -> None:
        """Leave the live line."""
        self.stream.write(self._clear())
        self.stream.flush()

    def _line(self, elapsed: float, detail: str) -> str:
        assert self._current is not None  # noqa: S101 - only called between start and finish
        number = len(self.steps) - len(self.pace.remaining) + 1
        left = self.pace.left(self._current, elapsed)
        text = f"[{number}/{len(self.steps)}] {self._current.name}, {words(left)} left"
        return f"{text} ({detail})" if detail else text

    def _show(self, line: str) -> None:
        self._shown = self.clock()
        self.stream.write(f"{self._clear()}{line[:100]}" if self.stream.isatty() else f"{line}\n")
        self.stream.flush()

    def _clear(self) -> str:
        return "\r\x1b[K" if self.stream.isatty() else ""


def words(seconds: float) -> str:
    """A time left in words, rounded as coarsely as it is known: ``about 7 min``, ``40 s``."""
    if seconds >= 90:
        return f"about {round(seconds / 60)} min"
    return f"{max(5, round(seconds / 5) * 5)} s"
