"""How long a start will still take: from this hub's own starts, from published figures until there are any."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

from gpu_launcher.domain.pool_state import LeadTime
from gpu_launcher.domain.stage import Stage, StartKind
from gpu_launcher.explain.history import WHOLE, History, Phase, Where
from gpu_launcher.explain.lifetimes import Lifetimes, guessed, total
from gpu_launcher.explain.story import Story
from gpu_launcher.explain.wait import ColdStart, in_words

# With fewer starts of its own a figure is called expected, not usual.
_MEASURED = 5
# Nobody calls a stage slow that is a second over.
_SLACK_S = 2.0
# An image of unknown size: a few GB, as notebook images are.
_UNKNOWN_PULL_S = 60.0

_COURSES = {
    StartKind.WARM: (Stage.QUEUED, Stage.SCHEDULING, Stage.STARTING, Stage.SERVER_ANSWERING),
    StartKind.LUKEWARM: (
        Stage.QUEUED,
        Stage.SCHEDULING,
        Stage.PULLING_IMAGE,
        Stage.STARTING,
        Stage.SERVER_ANSWERING,
    ),
    StartKind.COLD: tuple(stage for stage in Stage if stage is not Stage.VOLUME),
    StartKind.UNKNOWN: (),
}


@dataclass(frozen=True, slots=True)
class Usual:
    """What a stage usually takes in seconds; ``count`` own starts of the same kind told so."""

    p50_s: float
    p90_s: float
    count: int
    measured: bool
    """False: published figures, or few starts, speak."""


@dataclass(frozen=True, slots=True)
class Eta:
    """Seconds that are left: half of the starts take at most ``p50_s``, nine of ten at most ``p90_s``."""

    p50_s: float
    p90_s: float
    measured: bool
    overrun: bool = False
    """Whether the stage under way takes longer than nine of ten do."""


@dataclass(frozen=True)
class Priors:
    """Published seconds of each stage, for as long as nothing was measured; a stage that is missing takes none."""

    seconds: tuple[tuple[Stage, float], ...]

    def stage(self, stage: Stage) -> Lifetimes:
        """Return the guess for one stage."""
        if stage not in self._stages:
            self._stages[stage] = guessed(dict(self.seconds).get(stage, 0.0))
        return self._stages[stage]

    def together(self, stages: tuple[Stage, ...]) -> Lifetimes:
        """Return the guess for several stages, one after another."""
        if stages not in self._sums:
            self._sums[stages] = total([self.stage(stage) for stage in stages])
        return self._sums[stages]

    @cached_property
    def _stages(self) -> dict[Stage, Lifetimes]:
        return {}

    @cached_property
    def _sums(self) -> dict[tuple[Stage, ...], Lifetimes]:
        return {}


def priors(wait: ColdStart, lead: LeadTime | None = None) -> Priors:
    """Return the priors of a profile: its cold start as published, its machines' lead time as the controller saw it."""
    parts = {part.name: part.seconds for part in wait.stages}
    boot = float(parts.get("boot") or 0.0)
    driver = float(parts.get("GPU driver") or 0.0)
    if lead is not None and lead.count and boot + driver > 0:
        scale = max(0.0, lead.p50_s) / (boot + driver)
        boot, driver = boot * scale, driver * scale
    pull = parts.get("image", 0)
    return _shared(
        (
            (Stage.QUEUED, 0.3),
            (Stage.FINDING_CAPACITY, 2.0),
            (Stage.LAUNCHING, boot * 0.1),
            (Stage.BOOTING, boot * 0.9),
            (Stage.GPU_DRIVER, driver),
            (Stage.SCHEDULING, 0.5),
            (Stage.PULLING_IMAGE, _UNKNOWN_PULL_S if pull is None else float(pull)),
            (Stage.STARTING, 1.0),
            (Stage.SERVER_ANSWERING, float(parts.get("server") or 0.0)),
        )
    )


@lru_cache(maxsize=256)
def _shared(seconds: tuple[tuple[Stage, float], ...]) -> Priors:
    # Every start of a profile has the same figures, and their sums cost more than all else here.
    return Priors(seconds)


def course(kind: StartKind, gpus: int = 1) -> tuple[Stage, ...]:
    """Return the stages that such a start goes through, in order; () where the kind is not known yet.

    A volume shows only once a start waits for it: most never do.
    """
    return tuple(stage for stage in _COURSES[kind] if gpus or stage is not Stage.GPU_DRIVER)


def usual(history: History, where: Where, stage: Stage, published: Priors) -> Usual:
    """Return what the stage usually takes there."""
    times = history.lifetimes(where, Phase(stage), published.stage(stage))
    count = history.count(Where(where.kind, where.pool_id), Phase(stage))
    return Usual(times.quantile(0.5), times.quantile(0.9), count, count >= _MEASURED)


def time_left(history: History, story: Story, expected: tuple[Stage, ...], now: float, published: Priors) -> Eta | None:
    """Return what is left of a start at *now*, given what it has already spent in its stage.

    *expected* is its course, the stages ahead of it are taken from there. None once it ended, and while its kind is
    unknown: minutes and seconds are equally likely then.
    """
    if story.ended_at is not None or story.kind is StartKind.UNKNOWN:
        return None
    where, stage = place_of(story), story.current.stage
    spent = story.current.seconds(now)
    ahead = tuple(other for other in expected if other.place > stage.place)
    current = history.lifetimes(where, Phase(stage), published.stage(stage))
    later = history.lifetimes(where, Phase(stage, after=True), published.together(ahead))
    left = total([current.left(spent), later])
    count = history.count(Where(where.kind, where.pool_id), Phase(stage))
    overrun = spent > current.quantile(0.9) + _SLACK_S
    return Eta(left.quantile(0.5), left.quantile(0.9), count >= _MEASURED, overrun)


def whole_start(history: History, pool_id: str, kind: StartKind, published: Priors, gpus: int = 1) -> Eta | None:
    """Return what a start of that kind takes from click to notebook, for a card; None where the kind is unknown."""
    if kind is StartKind.UNKNOWN:
        return None
    where = Where(kind, pool_id)
    times = history.lifetimes(where, WHOLE, published.together(course(kind, gpus)))
    return Eta(times.quantile(0.5), times.quantile(0.9), history.count(where, WHOLE) >= _MEASURED)


def place_of(story: Story) -> Where:
    """Return what the start has in common with others, as far as it is known by now."""
    return Where(story.kind, story.pool_id, story.capacity_type, story.zone)


def eta_words(eta: Eta) -> str:
    """Return what is left as people say it: ``"about 50 s left (usually under 1:30)"``."""
    about = f"about {in_words(eta.p50_s)} left"
    if eta.overrun:
        return f"{about}, longer than usual"
    return f"{about} ({'usually' if eta.measured else 'expected'} under {under(eta.p90_s)})"


def wait_words(eta: Eta) -> str:
    """Return a whole wait for a card: ``"about 2 min (usually under 3 min)"``; short ones without the bracket."""
    about = f"about {in_words(eta.p50_s)}"
    return (
        about if eta.p90_s < 10 else f"{about} ({'usually' if eta.measured else 'expected'} under {under(eta.p90_s)})"
    )


def under(seconds: float) -> str:
    """Return a bound that is never below the figure: ``"8 s"``, ``"40 s"``, ``"1:30"``, ``"3 min"``."""
    if seconds < 10:
        return f"{max(1, math.ceil(seconds))} s"
    if seconds <= 60:
        step = 5 if seconds <= 30 else 10
        return f"{math.ceil(seconds / step) * step} s"
    minutes, rest = divmod(math.ceil(seconds / 30) * 30, 60)
    return f"{minutes}:{rest:02d}" if rest else f"{minutes} min"
