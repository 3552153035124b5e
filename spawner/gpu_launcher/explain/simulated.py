"""Starts that never were, drawn from published figures: to see whether the estimates keep what they promise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from gpu_launcher.domain.outcomes import RefusalReason
from gpu_launcher.domain.stage import Stage, StartKind, StartOutcome
from gpu_launcher.domain.start import StageTime, StartRecord

_FIRST_AT = 1_700_000_000.0
_APART_S = 300.0
# The part of all starts that is warm, and warm or lukewarm.
_WARM, _WARM_OR_LUKEWARM = 0.5, 0.65
# Of the cold starts: spot is sold out and the launcher falls back; nothing can be had at all; the cloud makes it wait.
_FALLBACK, _SOLD_OUT, _SCARCE = 0.08, 0.04, 0.08
# Of all starts: the user changes their mind; the hub restarts.
_STOPPED, _LOST = 0.05, 0.01
_SOLD_OUT_S = 240.0
# One slow machine is slow in every stage: the spread that a start's stages share, and that of each for itself.
_SHARED_SIGMA, _OWN_SIGMA = 0.12, 0.25


@dataclass(frozen=True, slots=True)
class _Site:
    """A pool with its middle times in seconds; zones differ by a factor."""

    pool_id: str
    boot_s: float
    driver_s: float
    pull_s: float
    zones: tuple[tuple[str, float], ...]


# NodeClaim to Ready 36-58 s, the driver from the machine's image or by an operator, images of 8 to 20 GB.
_SITES = (
    _Site("a10g-1", 38, 12, 130, (("us-west-2a", 1.0), ("us-west-2b", 1.1))),
    _Site("a100-8", 52, 20, 300, (("us-west-2b", 1.0), ("us-west-2c", 1.25))),
    _Site("l4-1", 36, 95, 130, (("us-west-2a", 0.95), ("us-west-2c", 1.05))),
)


def simulated_starts(count: int, seed: int) -> Iterator[StartRecord]:
    """Yield that many records in the order of their beginnings, always the same for a seed."""
    random = Random(seed)  # noqa: S311 - a replay must repeat
    now = _FIRST_AT
    for _ in range(count):
        now += random.expovariate(1 / _APART_S)
        yield _start(random, now)


def _start(random: Random, now: float) -> StartRecord:
    site, chance = random.choice(_SITES), random.random()
    kind = StartKind.WARM if chance < _WARM else StartKind.LUKEWARM if chance < _WARM_OR_LUKEWARM else StartKind.COLD
    capacity_type = random.choice(("spot", "on-demand"))
    zone, slow = random.choice(site.zones)
    stages = _stages(random, site, kind, slow * random.lognormvariate(0, _SHARED_SIGMA))
    outcome, reason, attempts = StartOutcome.READY, "", 1
    chance = random.random()
    if kind is StartKind.COLD and chance < _SOLD_OUT:
        stages = [*stages[:1], StageTime(Stage.FINDING_CAPACITY, _SOLD_OUT_S)]
        outcome, reason = StartOutcome.REFUSED, RefusalReason.CAPACITY.value
    elif kind is StartKind.COLD and capacity_type == "spot" and chance < _SOLD_OUT + 2 * _FALLBACK:
        searched = StageTime(Stage.FINDING_CAPACITY, random.uniform(10, 40))
        stages = [StageTime(Stage.QUEUED, 0.3), searched, *stages]
        capacity_type, attempts = "on-demand", 2
    if outcome is StartOutcome.READY and chance > 1 - _STOPPED - _LOST:
        stages = _cut(stages, random.random() * sum(time.seconds for time in stages))
        outcome = StartOutcome.STOPPED if chance > 1 - _STOPPED else StartOutcome.LOST
    return StartRecord(
        profile_id=site.pool_id.upper(),
        pool_id=site.pool_id,
        kind=kind,
        outcome=outcome,
        reason=reason,
        began_at=now,
        seconds=sum(time.seconds for time in stages),
        stages=tuple(stages),
        attempts=attempts,
        capacity_type=capacity_type,
        zone=zone,
    )


def _stages(random: Random, site: _Site, kind: StartKind, slow: float) -> list[StageTime]:
    middles: list[tuple[Stage, float]] = [(Stage.QUEUED, 0.3)]
    if kind is StartKind.COLD:
        scarce = random.expovariate(1 / 60) if random.random() < _SCARCE else 0.0
        middles += [
            (Stage.FINDING_CAPACITY, 2.0 + scarce),
            (Stage.LAUNCHING, 4.0),
            (Stage.BOOTING, site.boot_s),
            (Stage.GPU_DRIVER, site.driver_s),
        ]
    middles.append((Stage.SCHEDULING, 0.5))
    if kind is not StartKind.WARM:
        middles.append((Stage.PULLING_IMAGE, site.pull_s))
    middles += [(Stage.STARTING, 1.2), (Stage.SERVER_ANSWERING, 4.0)]
    return [StageTime(stage, middle * slow * random.lognormvariate(0, _OWN_SIGMA)) for stage, middle in middles]


def _cut(stages: list[StageTime], at: float) -> list[StageTime]:
    ends = accumulate(time.seconds for time in stages)
    kept: list[StageTime] = []
    for time, end in zip(stages, ends, strict=True):
        if end >= at:
            return [*kept, StageTime(time.stage, max(0.0, time.seconds - (end - at)))]
        kept.append(time)
    return kept
