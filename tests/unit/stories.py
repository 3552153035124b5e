"""Stories and records for tests: defaults, and only what matters said."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from gpu_launcher.domain.outcomes import Refusal, RefusalReason
from gpu_launcher.domain.policy import ClusterPolicy
from gpu_launcher.domain.stage import Stage, StartKind, StartOutcome
from gpu_launcher.domain.start import StageTime, StartRecord
from gpu_launcher.explain.eta import Priors, priors
from gpu_launcher.explain.finding import Diagnosis
from gpu_launcher.explain.story import Story, begin, finish, next_attempt, tell
from gpu_launcher.explain.wait import cold_start
from machines import TORCH

PUBLISHED: Priors = priors(cold_start(1, TORCH, ClusterPolicy()))
NO_CAPACITY = Refusal(RefusalReason.CAPACITY, "No A10G could be had in us-west-2.")


class Found(Diagnosis):
    """A diagnosis that may be silent."""

    def __init__(self, stage: Stage, words: str = "", **more: Any) -> None:
        super().__init__(stage, words, **more)


def begun(at: float = 100.0, kind: StartKind = StartKind.COLD) -> Story:
    return begin("A10G", "train", at, profile_id="a10g", pool_id="a10g-1", kind=kind)


def told(*found: tuple[float, Found], story: Story | None = None) -> Story:
    story = story or begun()
    for now, one in found:
        story = tell(story, one, now)
    return story


def record(
    *stages: tuple[Stage, float],
    kind: StartKind = StartKind.COLD,
    outcome: StartOutcome = StartOutcome.READY,
    pool: str = "a10g-1",
    zone: str = "",
    capacity: str = "",
    profile: str = "a10g",
) -> StartRecord:
    times = tuple(StageTime(stage, seconds) for stage, seconds in stages)
    whole = sum(seconds for _, seconds in stages)
    return StartRecord(profile, pool, kind, outcome, "", 0.0, whole, times, capacity_type=capacity, zone=zone)


_WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12).map(
    lambda words: " ".join(words.split())
)
_FOUND = st.builds(
    Found,
    stage=st.sampled_from(Stage),
    words=_WORDS,
    detail=_WORDS,
    since=st.none() | st.floats(0, 2000),
    tried=st.lists(_WORDS, max_size=2).map(tuple),
    unknown=st.lists(_WORDS.filter(bool), max_size=2).map(tuple),
    kind=st.sampled_from(StartKind),
    instance_type=st.sampled_from(["", "g5.xlarge"]),
    zone=st.sampled_from(["", "us-west-2b"]),
    capacity_type=st.sampled_from(["", "spot"]),
)
_STEPS = st.lists(st.tuples(st.floats(0, 30), st.one_of(_FOUND, st.none())), max_size=12)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Any story that can come about: diagnoses in any order, further attempts, ended or not."""
    now = 1000.0
    story = begun(now)
    for pause, found in draw(_STEPS):
        now += pause
        story = tell(story, found, now) if found else next_attempt(story, "Trying something else", now)
    end = draw(st.sampled_from(["open", "ready", "refused", "stopped"]))
    if end == "open":
        return story
    return finish(story, now, NO_CAPACITY if end == "refused" else None, failed=end == "stopped")
