"""Whether waits were as long as was said: recorded starts replayed, each told only what was known before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from gpu_launcher.domain.stage import Stage, StartKind, StartOutcome
from gpu_launcher.domain.start import StartRecord
from gpu_launcher.explain.eta import Eta, Priors, course, time_left, whole_start
from gpu_launcher.explain.history import History
from gpu_launcher.explain.lifetimes import Observation, within
from gpu_launcher.explain.story import Span, Story

# Of the starts, what is to end before the stated p90. Below, the page promises too much; above, it frightens.
WANTED = (0.85, 0.95)
# With fewer, nothing can be said about one in ten.
ENOUGH = 50
# Seconds into a stage at which a page is looked at: chosen beforehand, since a look that depends on the end is unfair.
_LOOKS_S = (0.0, 10.0, 40.0, 120.0, 300.0)


@dataclass(frozen=True, slots=True)
class Share:
    """Of ``count`` predictions, which part of what they were about ended before p50 and before p90 (0 to 1)."""

    count: int
    before_p50: float
    before_p90: float

    @property
    def enough(self) -> bool:
        """Whether there are enough of them to judge."""
        return self.count >= ENOUGH

    @property
    def kept(self) -> bool:
        """Whether p90 keeps its promise."""
        return WANTED[0] <= self.before_p90 <= WANTED[1]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Predictions against what happened: of whole starts, by kind, and of what was left while in each stage."""

    starts: int
    ready: int
    whole: Share
    left: Share
    kinds: dict[StartKind, Share] = field(default_factory=dict)
    stages: dict[Stage, Share] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Prediction:
    kind: StartKind
    stage: Stage | None
    eta: Eta
    left: float
    ended: bool


def calibrate(records: Sequence[StartRecord], published: Priors) -> Calibration:
    """Return how well the estimates would have done on these starts; those of unknown kind had none."""
    found = [*_replayed(sorted(records, key=lambda record: record.began_at + record.seconds), published)]
    whole = [one for one in found if one.stage is None]
    looks = [one for one in found if one.stage is not None]
    return Calibration(
        starts=len(records),
        ready=sum(record.outcome is StartOutcome.READY for record in records),
        whole=_share(whole),
        left=_share(looks),
        kinds={kind: _share([one for one in whole if one.kind is kind]) for kind in StartKind},
        stages={stage: _share([one for one in looks if one.stage is stage]) for stage in Stage},
    )


def _replayed(records: Sequence[StartRecord], published: Priors) -> Iterator[_Prediction]:
    history = History()
    for record in records:
        yield from _predictions(record, history, published)
        history = history.add(record)


def _predictions(record: StartRecord, history: History, published: Priors) -> Iterator[_Prediction]:
    ready = record.outcome is StartOutcome.READY
    whole = whole_start(history, record.pool_id, record.kind, published)
    if whole is None:
        return
    yield _Prediction(record.kind, None, whole, record.seconds, ready)
    spent = 0.0
    for time in record.stages:
        for look in _LOOKS_S:
            if look > time.seconds:
                break
            now = record.began_at + spent + look
            story = _story(record, Span(time.stage, "", "", now - look))
            eta = time_left(history, story, course(record.kind), now, published)
            if eta is not None:
                yield _Prediction(record.kind, time.stage, eta, record.seconds - spent - look, ready)
        spent += time.seconds


def _story(record: StartRecord, span: Span) -> Story:
    return Story(
        "",
        "",
        record.began_at,
        (span,),
        record.profile_id,
        record.pool_id,
        kind=record.kind,
        zone=record.zone,
        capacity_type=record.capacity_type,
    )


def _share(predictions: Sequence[_Prediction]) -> Share:
    return Share(len(predictions), _before(predictions, "p50_s"), _before(predictions, "p90_s"))


def _before(predictions: Sequence[_Prediction], bound: str) -> float:
    # Time as a multiple of what was stated: those that were cut short say only that it was at least that much.
    ratios = [Observation(max(0.0, one.left) / max(getattr(one.eta, bound), 1e-9), one.ended) for one in predictions]
    return within(ratios, 1.0)
