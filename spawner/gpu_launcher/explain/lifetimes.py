"""How long something takes, learnt from times seen, those included that were cut short; arithmetic without chance."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
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
# What the chance that the next one is longer than all seen is worth, in starts. None, and after ten starts every fifth
# runs over the stated p90; a whole one, and a sum of two such times is stated too long.
_NEXT = 0.5
# Spread of a figure that nobody measured here: 9 of 10 stay under 1.7 times the middle.
_PRIOR_SIGMA = 0.42


@dataclass(frozen=True, slots=True)
class Observation:
    """One time in seconds; ``ended`` False means it was cut short and would have gone on."""

    seconds: float
    ended: bool = True


@dataclass(frozen=True)
class Lifetimes:
    """A distribution of times: (seconds, weight) ascending, where a weight of 1 is worth one observed start."""

    points: tuple[tuple[float, float], ...] = ()

    @cached_property
    def weight(self) -> float:
        """How many starts it is worth."""
        return math.fsum([weight for _, weight in self.points])

    @cached_property
    def grid(self) -> tuple[float, ...]:
        """Equally likely times that stand for it in a sum, ascending; zeros where nothing is known."""
        return _equally_likely(self, _GRID)

    def blended(self, own: Lifetimes, worth: float) -> Lifetimes:
        """Return *own* with this distribution added as if it were *worth* starts."""
        if self.weight <= 0:
            return own
        scaled = [(seconds, weight * worth / self.weight) for seconds, weight in self.points]
        return _thinned(Lifetimes(tuple(sorted([*own.points, *scaled]))))

    def left(self, spent: float) -> Lifetimes:
        """Return the time that is left after *spent* seconds, given that it has not ended."""
        if spent <= 0:
            return self
        kept = [
            (seconds - spent, weight) for seconds, weight in self.points[bisect_right(self.points, (spent, math.inf)) :]
        ]
        missing = 1.0 - math.fsum([weight for _, weight in kept])
        if missing > 0:
            # Less than one start went on for so long: what is left is a guess from the time spent, and a wide one.
            kept = sorted([*kept, *_beyond(spent, missing, offset=0.0)])
        return Lifetimes(tuple(kept))

    def quantile(self, part: float) -> float:
        """Return the time that this part (0 to 1) of the starts stays within; 0.0 where nothing is known."""
        if not self.points:
            return 0.0
        reached = list(accumulate([weight for _, weight in self.points]))
        # What rounding adds up must not push a whole point.
        place = bisect_left(reached, part * reached[-1] * (1 - 1e-9))
        return self.points[min(place, len(self.points) - 1)][0]


def observed(observations: Iterable[Observation]) -> Lifetimes:
    """Return the Kaplan-Meier curve: what was cut short counts for the time it lasted, and passes its weight on.

    A little weight lies beyond all that was seen: the next start may be the longest yet.
    """
    points = _curve(observations)
    longest = points[-1][0] if points else 0.0
    return _thinned(Lifetimes((*points, *_beyond(longest, _NEXT, offset=longest)))) if points else Lifetimes()


def within(observations: Iterable[Observation], bound: float) -> float:
    """Return which part (0 to 1) of the times stays within the bound, those cut short counted for what they lasted."""
    points = _curve(observations)
    every = math.fsum(weight for _, weight in points)
    return math.fsum(weight for seconds, weight in points if seconds <= bound) / every if every else 0.0


def guessed(seconds: float) -> Lifetimes:
    """Return a distribution worth one start around a middle that was published, not measured."""
    if seconds <= 0:
        return Lifetimes(((0.0, 1.0),))
    normal = NormalDist(math.log(seconds), _PRIOR_SIGMA)
    return _of(tuple(math.exp(normal.inv_cdf((place + 0.5) / _GRID)) for place in range(_GRID)), 1.0)


def total(parts: Sequence[Lifetimes]) -> Lifetimes:
    """Return the sum of independent times, worth as many starts as the least known of them."""
    if not parts:
        return Lifetimes()
    sums = parts[0].grid
    for part in parts[1:]:
        sums = tuple(sorted([one + other for one in _middles(sums, _GRID) for other in part.grid]))
    return _of(_middles(sums, min(_POINTS, len(sums))), min(part.weight for part in parts))


def _curve(observations: Iterable[Observation]) -> list[tuple[float, float]]:
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
    return points


def _beyond(reach: float, weight: float, *, offset: float) -> list[tuple[float, float]]:
    base = max(reach, 1.0)
    return [(offset + base * growth, weight / len(_GROWTH)) for growth in _GROWTH]


def _equally_likely(lifetimes: Lifetimes, size: int) -> tuple[float, ...]:
    points = lifetimes.points
    if not points:
        return (0.0,) * size
    reached = list(accumulate(weight for _, weight in points))
    step, last = reached[-1] / size, len(points) - 1
    return tuple([points[min(last, bisect_left(reached, (place + 0.5) * step))][0] for place in range(size)])


def _thinned(lifetimes: Lifetimes) -> Lifetimes:
    if len(lifetimes.points) <= _POINTS:
        return lifetimes
    return _of(_equally_likely(lifetimes, _POINTS), lifetimes.weight)


def _of(values: Sequence[float], worth: float) -> Lifetimes:
    return Lifetimes(tuple([(value, worth / len(values)) for value in values]))


def _middles(values: Sequence[float], size: int) -> tuple[float, ...]:
    return tuple([values[int((place + 0.5) * len(values) / size)] for place in range(size)])
