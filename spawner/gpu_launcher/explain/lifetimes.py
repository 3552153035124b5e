"""How long something takes, learnt from times seen, those included that were cut short; arithmetic without chance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import NormalDist

# Equally likely values that stand for a distribution in a sum. Too few and the 90th percentile is coarse; the cost of a
# sum grows with the square.
_GRID = 32
# Points that a curve keeps. Too few and little is left to say about a wait that already overran.
_POINTS = 128
# What comes after everything seen: the wait goes on for these parts of the time already spent, equally likely
# (quartile middles of a Pareto tail with exponent 2: whoever has waited long will wait long).
_GROWTH = (0.07, 0.27, 0.63, 1.8)
# Spread of a figure that nobody measured here: 9 of 10 stay under 1.7 times the middle.
_PRIOR_SIGMA = 0.42


@dataclass(frozen=True, slots=True)
class Observation:
    """One time in seconds; ``ended`` False means it was cut short and would have gone on."""

    seconds: float
    ended: bool = True


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """A distribution of times: (seconds, weight) ascending, where a weight of 1 is worth one observed start."""

    points: tuple[tuple[float, float], ...] = ()

    @property
    def weight(self) -> float:
        """How many starts it is worth."""
        return math.fsum(weight for _, weight in self.points)

    def blended(self, own: Lifetimes, worth: float) -> Lifetimes:
        """Return *own* with this distribution added as if it were *worth* starts."""
        total = self.weight
        if total <= 0:
            return own
        scaled = [(seconds, weight * worth / total) for seconds, weight in self.points]
        return Lifetimes(tuple(sorted([*own.points, *scaled])))

    def left(self, spent: float) -> Lifetimes:
        """Return the time that is left after *spent* seconds, given that it has not ended."""
        if spent <= 0:
            return self
        kept = [(seconds - spent, weight) for seconds, weight in self.points if seconds > spent]
        missing = 1.0 - math.fsum(weight for _, weight in kept)
        if missing > 0:
            # Less than one start went on for so long: what is left is a guess from the time spent, and a wide one.
            kept = sorted([*kept, *_beyond(spent, missing, offset=0.0)])
        return Lifetimes(tuple(kept))

    def quantile(self, part: float) -> float:
        """Return the time that this part (0 to 1) of the starts stays within; 0.0 where nothing is known."""
        goal = part * self.weight
        for (seconds, _), reached in zip(self.points, accumulate(weight for _, weight in self.points), strict=True):
            if reached >= goal - 1e-9:
                return seconds
        return self.points[-1][0] if self.points else 0.0

    def grid(self, size: int = _GRID) -> tuple[float, ...]:
        """Return *size* equally likely times, ascending; zeros where nothing is known."""
        if not self.points:
            return (0.0,) * size
        step = self.weight / size
        values: list[float] = []
        reached = 0.0
        for seconds, weight in self.points:
            reached += weight
            while len(values) < size and (len(values) + 0.5) * step <= reached:
                values.append(seconds)
        return (*values, *[self.points[-1][0]] * (size - len(values)))


def observed(observations: Iterable[Observation]) -> Lifetimes:
    """Return the Kaplan-Meier curve: what was cut short counts for the time it lasted, and passes its weight on."""
    ordered = sorted(observations, key=lambda one: (one.seconds, not one.ended))
    points: list[tuple[float, float]] = []
    weight = 1.0
    for place, one in enumerate(ordered):
        others = len(ordered) - place - 1
        if one.ended:
            points.append((one.seconds, weight))
        elif others:
            weight *= (others + 1) / others
        else:
            points.extend(_beyond(one.seconds, weight, offset=one.seconds))
    return _thinned(Lifetimes(tuple(points)))


def guessed(seconds: float) -> Lifetimes:
    """Return a distribution worth one start around a middle that was published, not measured."""
    if seconds <= 0:
        return Lifetimes(((0.0, 1.0),))
    normal = NormalDist(math.log(seconds), _PRIOR_SIGMA)
    return _of(tuple(math.exp(normal.inv_cdf((place + 0.5) / _GRID)) for place in range(_GRID)), 1.0)


def total(parts: Sequence[Lifetimes]) -> Lifetimes:
    """Return the sum of independent times, worth as many starts as the least known of them."""
    worth = min((part.weight for part in parts), default=0.0)
    sums: tuple[float, ...] = (0.0,)
    for part in parts:
        grid = part.grid()
        sums = tuple(sorted(one + other for one in _middles(sums, _GRID) for other in grid))
    return _of(_middles(sums, _POINTS), worth)


def _beyond(reach: float, weight: float, *, offset: float) -> list[tuple[float, float]]:
    base = max(reach, 1.0)
    return [(offset + base * growth, weight / len(_GROWTH)) for growth in _GROWTH]


def _thinned(lifetimes: Lifetimes) -> Lifetimes:
    if len(lifetimes.points) <= _POINTS:
        return lifetimes
    return _of(lifetimes.grid(_POINTS), lifetimes.weight)


def _of(values: Sequence[float], worth: float) -> Lifetimes:
    return Lifetimes(tuple((value, worth / len(values)) for value in values))


def _middles(values: Sequence[float], size: int) -> tuple[float, ...]:
    return tuple(values[int((place + 0.5) * len(values) / size)] for place in range(size))
