"""What a person is told about one start: a timeline that only grows, whatever the cluster does underneath."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gpu_launcher.domain.outcomes import Refusal, RefusalReason
from gpu_launcher.domain.stage import Stage, StartKind
from gpu_launcher.domain.start import StageTime
from gpu_launcher.explain.finding import Diagnosis
from gpu_launcher.explain.stage_words import done_words, now_words
from gpu_launcher.explain.untrusted import json_object, member, number, text, texts

_VERSION = 1

# What a pod's annotation can carry of a start that is tried again and again.
_MOST_SPANS = 60
_MOST_TRIED = 20

# A stage that was seen proves at least this kind, whatever was expected at first.
_LEAST_KIND = {
    Stage.LAUNCHING: StartKind.COLD,
    Stage.BOOTING: StartKind.COLD,
    Stage.PULLING_IMAGE: StartKind.LUKEWARM,
}
_KINDS = (StartKind.UNKNOWN, StartKind.WARM, StartKind.LUKEWARM, StartKind.COLD)


@dataclass(frozen=True, slots=True)
class Span:
    """One stage as it happened, Unix seconds; ``ended`` None while it goes on, ``failed`` if it was not passed."""

    stage: Stage
    words: str
    detail: str
    began: float
    ended: float | None = None
    failed: bool = False

    def seconds(self, now: float) -> float:
        """Return how long it took, or, while it goes on, how long it has taken at *now*."""
        return max(0.0, (now if self.ended is None else self.ended) - self.began)


@dataclass(frozen=True, slots=True)
class Story:
    """A start so far. ``spans`` is never empty; only the last can be open. Times are Unix seconds of one clock."""

    profile_title: str
    server: str
    """The server's name; "" is the default server."""
    began_at: float
    spans: tuple[Span, ...]
    profile_id: str = ""
    pool_id: str = ""
    tried: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    """What could not be read, in words."""
    attempt: int = 1
    ended_at: float | None = None
    refusal: Refusal | None = None
    kind: StartKind = StartKind.UNKNOWN
    instance_type: str = ""
    zone: str = ""
    capacity_type: str = ""

    @property
    def current(self) -> Span:
        """The last stage, open until the start ended."""
        return self.spans[-1]

    @property
    def ready(self) -> bool:
        """Whether it ended with a server."""
        return self.ended_at is not None and not self.current.failed

    def elapsed(self, now: float) -> float:
        """Return the seconds since the click, the whole of it once the start ended."""
        return max(0.0, (now if self.ended_at is None else self.ended_at) - self.began_at)


def begin(
    profile_title: str,
    server: str,
    began_at: float,
    *,
    profile_id: str = "",
    pool_id: str = "",
    kind: StartKind = StartKind.UNKNOWN,
) -> Story:
    """Return the story of a start that was asked for then; *kind* is what is expected, if anything is."""
    return Story(profile_title, server, began_at, (_opened(began_at),), profile_id, pool_id, kind=kind)


def tell(story: Story, diagnosis: Diagnosis, now: float) -> Story:
    """Return the story with what was just found; the same object where a reader would see nothing new.

    Stages never go back within an attempt: a diagnosis of an earlier one changes the words of the current line.
    A story that ended stays as it is.
    """
    if story.ended_at is not None:
        return story
    machine = (
        diagnosis.instance_type or story.instance_type,
        diagnosis.zone or story.zone,
        diagnosis.capacity_type or story.capacity_type,
    )
    spans = _continued(story.spans, diagnosis, machine, now)
    told = replace(
        story,
        spans=spans,
        tried=_more(story.tried, diagnosis.tried),
        unknown=tuple(diagnosis.unknown),
        kind=_kind(story.kind, diagnosis.kind, spans),
        instance_type=machine[0],
        zone=machine[1],
        capacity_type=machine[2],
    )
    return story if told == story else told


def next_attempt(
    story: Story, words: str, now: float, *, pool_id: str = "", profile: tuple[str, str] | None = None
) -> Story:
    """Return the story with the attempt closed as failed and another begun; *words* say what had not worked.

    *profile* is the id and title of the other profile where the next attempt uses one; the machine is forgotten.
    """
    if story.ended_at is not None:
        return story
    last = replace(story.current, words=words or story.current.words, failed=True, ended=_end(story.current, now))
    spans = (*story.spans[:-1], last, _opened(now))
    profile_id, title = profile or (story.profile_id, story.profile_title)
    return replace(
        story,
        profile_id=profile_id,
        profile_title=title,
        pool_id=pool_id or story.pool_id,
        spans=spans[-_MOST_SPANS:],
        tried=_more(story.tried, (words,)),
        unknown=(),
        attempt=story.attempt + 1,
        kind=StartKind.UNKNOWN,
        instance_type="",
        zone="",
        capacity_type="",
    )


def finish(story: Story, now: float, refusal: Refusal | None = None, *, failed: bool = False) -> Story:
    """Return the story ended: with a server, or refused, or *failed* without a reason (stopped, a defect)."""
    if story.ended_at is not None:
        return story
    last = replace(story.current, ended=_end(story.current, now), failed=failed or refusal is not None)
    if not last.failed:
        last = replace(last, words=done_words(last.stage, story.instance_type, story.zone, story.capacity_type))
    return replace(story, spans=(*story.spans[:-1], last), ended_at=max(now, story.began_at), refusal=refusal)


def stage_times(story: Story, now: float | None = None) -> tuple[StageTime, ...]:
    """Return what each stage took, all attempts in order: an earlier stage after a later one begins a new attempt.

    The sum is the whole start. A stage that still goes on counts up to *now*, or not at all where that is None.
    """
    return tuple(StageTime(span.stage, span.seconds(span.began if now is None else now)) for span in story.spans)


def _opened(now: float) -> Span:
    return Span(Stage.QUEUED, now_words(Stage.QUEUED), "", now)


def _continued(
    spans: tuple[Span, ...], diagnosis: Diagnosis, machine: tuple[str, str, str], now: float
) -> tuple[Span, ...]:
    current = spans[-1]
    if diagnosis.stage.place <= current.stage.place:
        words = diagnosis.words or current.words
        return (*spans[:-1], replace(current, words=words, detail=diagnosis.detail))
    since = now if diagnosis.since is None else diagnosis.since
    # The cluster's clocks are not this one: a change can have been neither before the stage began nor in the future.
    changed = min(max(since, current.began), _end(current, now))
    done = replace(current, words=done_words(current.stage, *machine), ended=changed)
    opened = Span(diagnosis.stage, diagnosis.words or now_words(diagnosis.stage), diagnosis.detail, changed)
    return (*spans[:-1], done, opened)


def _end(span: Span, now: float) -> float:
    return max(now, span.began)


def _kind(before: StartKind, found: StartKind, spans: tuple[Span, ...]) -> StartKind:
    """Return the kind last found, but never less than what the stages of this attempt have already proved."""
    proved = [StartKind.UNKNOWN]
    for span in reversed(spans):
        if span.failed:
            break
        proved.append(_LEAST_KIND.get(span.stage, StartKind.UNKNOWN))
    return max((before if found is StartKind.UNKNOWN else found, *proved), key=_KINDS.index)


def _more(before: tuple[str, ...], found: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*before, *(words for words in found if words))))[-_MOST_TRIED:]


def dump_story(story: Story) -> str:
    """Return the story as compact JSON for a pod's annotation."""
    refusal = story.refusal and {"reason": story.refusal.reason, "message": story.refusal.message}
    data = {
        "version": _VERSION,
        "profile": [story.profile_id, story.profile_title],
        "pool": story.pool_id,
        "server": story.server,
        "began": story.began_at,
        "spans": [[s.stage, s.words, s.detail, s.began, s.ended, s.failed] for s in story.spans],
        "tried": story.tried,
        "unknown": story.unknown,
        "attempt": story.attempt,
        "ended": story.ended_at,
        "refusal": refusal,
        "kind": story.kind,
        "machine": [story.instance_type, story.zone, story.capacity_type],
    }
    return json.dumps(data, separators=(",", ":"))


def load_story(raw: object) -> Story | None:
    """Return the story of an annotation's text; None for anything that is not one, whoever wrote it."""
    data = json_object(raw)
    if data is None or data.get("version") != _VERSION:
        return None
    began = number(data.get("began"))
    spans = _joined([*filter(None, map(_span, _items(data.get("spans"))[-_MOST_SPANS:]))])
    if began is None or not spans:
        return None
    profile_id, title = _three(data.get("profile"))[:2]
    instance_type, zone, capacity_type = _three(data.get("machine"))
    attempt = number(data.get("attempt")) or 1
    return Story(
        profile_id=profile_id,
        profile_title=title,
        pool_id=text(data.get("pool")),
        server=text(data.get("server")),
        began_at=began,
        spans=spans,
        tried=texts(data.get("tried"), _MOST_TRIED),
        unknown=texts(data.get("unknown"), _MOST_TRIED),
        attempt=max(1, int(attempt)),
        ended_at=number(data.get("ended")),
        refusal=_refusal(data.get("refusal")),
        kind=member(StartKind, data.get("kind")) or StartKind.UNKNOWN,
        instance_type=instance_type,
        zone=zone,
        capacity_type=capacity_type,
    )


def _joined(spans: Sequence[Span]) -> tuple[Span, ...]:
    # Only the last can be open.
    ends = [None if one.ended is None else max(one.ended, one.began) for one in spans]
    later = [*(one.began for one in spans[1:]), None]
    return tuple(
        replace(one, ended=other if end is None else end) for one, end, other in zip(spans, ends, later, strict=False)
    )


def _span(raw: object) -> Span | None:
    parts = _items(raw)
    if len(parts) != 6:
        return None
    stage, began = member(Stage, parts[0]), number(parts[3])
    if stage is None or began is None:
        return None
    return Span(stage, text(parts[1]), text(parts[2]), began, number(parts[4]), parts[5] is True)


def _refusal(raw: object) -> Refusal | None:
    reason = member(RefusalReason, raw.get("reason")) if isinstance(raw, Mapping) else None
    return Refusal(reason, text(raw.get("message"), 2000)) if isinstance(raw, Mapping) and reason else None


def _three(raw: object) -> tuple[str, str, str]:
    first, second, third, *_ = (*map(text, _items(raw)), "", "", "")
    return first, second, third


def _items(raw: object) -> Sequence[object]:
    return raw if isinstance(raw, list) else ()
