"""The last starts of a hub, and what they say about the next one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from gpu_launcher.domain.stage import Stage, StartKind, StartOutcome
from gpu_launcher.domain.start import StartRecord
from gpu_launcher.explain.lifetimes import Lifetimes, Observation, observed

# Too few and a quiet profile's starts are pushed out by a busy one's; too many and last month's cluster is predicted.
KEPT = 1000
# How many starts a wider key (other zones, other pools, published figures) is worth beside a narrower one's own. Too
# many and local facts come through late, too few and two odd starts make the page promise wonders.
_WIDER_WORTH = 2.0
# A history is worked out anew once it has grown by this part of itself: a crowd that starts at once ends at once, and
# each end would otherwise cost the hub tens of milliseconds. A larger part, and new facts wait longer.
_GROWN_PART = 30


@dataclass(frozen=True, slots=True)
class Where:
    """What a start has in common with others; empty texts are not known."""

    kind: StartKind
    pool_id: str = ""
    capacity_type: str = ""
    zone: str = ""

    def widths(self) -> Iterator[Where]:
        """Yield the same with fewer facts, from the kind alone to all that is known."""
        yield Where(self.kind)
        if self.pool_id:
            yield Where(self.kind, self.pool_id)
            if self.capacity_type:
                yield Where(self.kind, self.pool_id, self.capacity_type)
                if self.zone:
                    yield self


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of starts: one stage, or, with ``after``, all that follows it; stage None is the whole start."""

    stage: Stage | None = None
    after: bool = False


WHOLE = Phase()


class _Lessons:
    """What some records say, worked out as it is asked for."""

    def __init__(self, records: tuple[StartRecord, ...]) -> None:
        self.by_where: dict[Where, list[StartRecord]] = defaultdict(list)
        self.counts: dict[tuple[Where, Phase], int] = {}
        self.curves: dict[tuple[Where, Phase], Lifetimes] = {}
        self.blends: dict[tuple[Where, Phase, Lifetimes], Lifetimes] = {}
        for record in records:
            for where in Where(record.kind, record.pool_id, record.capacity_type, record.zone).widths():
                self.by_where[where].append(record)

    def observed(self, where: Where, phase: Phase) -> Lifetimes:
        """Return the curve of exactly these starts."""
        if (where, phase) not in self.curves:
            records = self.by_where.get(where, ())
            self.curves[where, phase] = observed(one for record in records for one in _observations(record, phase))
        return self.curves[where, phase]


@dataclass(frozen=True)
class History:
    """Finished starts, oldest first. What is worked out from them is kept beside them, unseen by equality."""

    records: tuple[StartRecord, ...] = ()
    unlearnt: int = field(default=0, compare=False, repr=False)
    """How many of the last records do not count yet; at most a thirtieth of all."""

    @classmethod
    def of(cls, records: Iterable[StartRecord]) -> History:
        """Return a history of the last of these records."""
        return cls(tuple(records)[-KEPT:])

    def add(self, record: StartRecord) -> History:
        """Return the history with one more start, the oldest dropped where there are too many."""
        records = (*self.records, record)[-KEPT:]
        if (self.unlearnt + 1) * _GROWN_PART > len(records):
            return History(records)
        grown = History(records, self.unlearnt + 1)
        grown.__dict__["_lessons"] = self._lessons
        return grown

    def count(self, where: Where, phase: Phase) -> int:
        """Return how many starts told how long the phase takes, by the narrowest facts given; cut short ones not."""
        counts = self._lessons.counts
        if (where, phase) not in counts:
            narrowest = [*where.widths()][-1]
            found = self._lessons.by_where.get(narrowest, ())
            counts[where, phase] = sum(one.ended for record in found for one in _observations(record, phase))
        return counts[where, phase]

    def lifetimes(self, where: Where, phase: Phase, prior: Lifetimes) -> Lifetimes:
        """Return how long the phase takes: own starts before those of wider keys before what was published."""
        blends, key = self._lessons.blends, (where, phase, prior)
        if key not in blends:
            blend = prior
            for width in where.widths():
                own = self._lessons.observed(width, phase)
                if own.points:
                    blend = blend.blended(own, _WIDER_WORTH)
            blends[key] = blend
        return blends[key]

    @cached_property
    def _lessons(self) -> _Lessons:
        return _Lessons(self.records)


def _observations(record: StartRecord, phase: Phase) -> Iterator[Observation]:
    ready = record.outcome is StartOutcome.READY
    if phase.stage is None:
        yield Observation(max(0.0, record.seconds), ready)
        return
    for place, time in enumerate(record.stages):
        if time.stage is phase.stage:
            passed = _passed(record, place)
            if not phase.after:
                yield Observation(max(0.0, time.seconds), passed)
            elif passed:
                yield Observation(sum(max(0.0, later.seconds) for later in record.stages[place + 1 :]), ready)


def _passed(record: StartRecord, place: int) -> bool:
    # Stages only ascend within an attempt: an earlier one next means that the attempt ended here.
    if place + 1 < len(record.stages):
        return record.stages[place + 1].stage.place > record.stages[place].stage.place
    return record.outcome is StartOutcome.READY
