"""The last starts of a hub, and what they say about the next one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from gpu_launcher.domain.stage import Stage, StartKind, StartOutcome
from gpu_launcher.domain.start import StartRecord
from gpu_launcher.explain.lifetimes import Lifetimes, Observation, observed

# Too few and a quiet profile's starts are pushed out by a busy one's; too many and last month's cluster is predicted.
KEPT = 1000
# How many starts a wider key (other zones, other pools, published figures) is worth beside a narrower one's own. Too
# many and local facts come through late, too few and two odd starts make the page promise wonders.
_WIDER_WORTH = 2.0


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


@dataclass(frozen=True)
class History:
    """Finished starts, oldest first. What is computed from them is kept beside them, unseen by equality."""

    records: tuple[StartRecord, ...] = ()

    @classmethod
    def of(cls, records: Iterable[StartRecord]) -> History:
        """Return a history of the last of these records."""
        return cls(tuple(records)[-KEPT:])

    def add(self, record: StartRecord) -> History:
        """Return the history with one more start, the oldest dropped where there are too many."""
        return replace(self, records=(*self.records, record)[-KEPT:])

    def count(self, where: Where, phase: Phase) -> int:
        """Return how many starts told how long the phase takes, by the narrowest facts given; cut short ones not."""
        if (where, phase) not in self._counts:
            narrowest = [*where.widths()][-1]
            found = self._by_where.get(narrowest, ())
            self._counts[where, phase] = sum(one.ended for record in found for one in _observations(record, phase))
        return self._counts[where, phase]

    def lifetimes(self, where: Where, phase: Phase, prior: Lifetimes) -> Lifetimes:
        """Return how long the phase takes: own starts before those of wider keys before what was published."""
        key = (where, phase, prior)
        if key not in self._blends:
            blend = prior
            for width in where.widths():
                own = self._observed(width, phase)
                if own.points:
                    blend = blend.blended(own, _WIDER_WORTH)
            self._blends[key] = blend
        return self._blends[key]

    def _observed(self, where: Where, phase: Phase) -> Lifetimes:
        if (where, phase) not in self._curves:
            records = self._by_where.get(where, ())
            self._curves[where, phase] = observed(one for record in records for one in _observations(record, phase))
        return self._curves[where, phase]

    @cached_property
    def _by_where(self) -> Mapping[Where, list[StartRecord]]:
        found: dict[Where, list[StartRecord]] = defaultdict(list)
        for record in self.records:
            for where in Where(record.kind, record.pool_id, record.capacity_type, record.zone).widths():
                found[where].append(record)
        return dict(found)

    @cached_property
    def _counts(self) -> dict[tuple[Where, Phase], int]:
        return {}

    @cached_property
    def _curves(self) -> dict[tuple[Where, Phase], Lifetimes]:
        return {}

    @cached_property
    def _blends(self) -> dict[tuple[Where, Phase, Lifetimes], Lifetimes]:
        return {}


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
