"""A story as the data of a page: lines done, under way and ahead, each with its time and what is usual."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gpu_launcher.domain.stage import Stage
from gpu_launcher.explain.eta import Eta, Priors, Usual, course, eta_words, place_of, under, usual
from gpu_launcher.explain.history import History
from gpu_launcher.explain.prices import dollars
from gpu_launcher.explain.stage_words import ahead_words
from gpu_launcher.explain.story import Span, Story
from gpu_launcher.explain.wait import in_words

# A stage that usually takes less is not worth a word about how long.
_USUAL_FROM_S = 1.0
# The hub takes 100 for the end of the start.
_MOST_PERCENT = 99

Line = dict[str, object]


class Other(Protocol):
    """What a page says of an alternative."""

    @property
    def profile_id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def words(self) -> str: ...
    @property
    def usd_per_hour(self) -> float | None: ...


def timeline(
    story: Story,
    now: float,
    history: History,
    published: Priors,
    *,
    eta: Eta | None,
    gpus: int = 1,
    usd_per_hour: float | None = None,
    image_bytes: int | None = None,
    alternatives: Sequence[Other] = (),
    reference: str = "",
) -> dict[str, object]:
    """Return the JSON data that the pending page shows at *now*; every text is plain and has yet to be escaped.

    *eta* is the ``time_left`` of that moment.
    """
    stages = course(story.kind, gpus)
    where = place_of(story)
    lines = [_line(span, now) for span in story.spans[:-1]]
    current = story.current
    if story.ended_at is None:
        lines.append(_current(current, now, usual(history, where, current.stage, published), eta))
        ahead = [stage for stage in stages if stage.place > current.stage.place]
        lines.extend(_ahead(stage, usual(history, where, stage, published), image_bytes) for stage in ahead)
    else:
        lines.append(_line(current, now))
    return {
        "title": story.profile_title,
        "server": story.server,
        "began_at": story.began_at,
        "now": now,
        "elapsed_s": round(story.elapsed(now), 1),
        "kind": story.kind.value,
        "attempt": story.attempt,
        "ready": story.ready,
        "eta": eta and {"p50_s": round(eta.p50_s, 1), "p90_s": round(eta.p90_s, 1), "words": eta_words(eta)},
        "price": None
        if usd_per_hour is None
        else {"usd_per_hour": usd_per_hour, "words": f"{dollars(usd_per_hour)}/h"},
        "lines": lines,
        "tried": list(story.tried),
        "unknown": list(story.unknown),
        "alternatives": [
            {
                "profile": other.profile_id,
                "title": other.title,
                "words": other.words,
                "usd_per_hour": other.usd_per_hour,
            }
            for other in alternatives
        ],
        "refusal": story.refusal
        and {"reason": story.refusal.reason.value, "message": story.refusal.message, "reference": reference},
    }


def progress_percent(story: Story, eta: Eta | None, now: float, at_least: int = 0) -> int:
    """Return how much of the expected time is over, in percent, 100 only when ready; never below *at_least*."""
    if story.ready:
        return 100
    elapsed = story.elapsed(now)
    share = elapsed / (elapsed + eta.p50_s) if eta and elapsed + eta.p50_s > 0 else 0.0
    return max(0, min(_MOST_PERCENT, max(at_least, int(share * 100))))


def current_words(story: Story, eta: Eta | None = None) -> str:
    """Return the start in one line of plain text: what is under way and what is left; or how it ended."""
    if story.refusal:
        return story.refusal.message
    return f"{story.current.words}, {eta_words(eta)}" if eta else story.current.words


def _line(span: Span, now: float) -> Line:
    seconds = round(span.seconds(now), 1)
    return _data(span.stage, "failed" if span.failed else "done", span.words, span.detail, seconds)


def _current(span: Span, now: float, normal: Usual, eta: Eta | None) -> Line:
    overrun = eta is not None and eta.overrun
    words = _usual_words(normal)
    if overrun:
        words = f"taking longer than usual (9 of 10 take under {under(normal.p90_s)})"
    return {
        **_data(span.stage, "now", span.words, span.detail, round(span.seconds(now), 1)),
        "usual": words,
        "overrun": overrun,
    }


def _ahead(stage: Stage, normal: Usual, image_bytes: int | None) -> Line:
    return {**_data(stage, "ahead", ahead_words(stage, image_bytes), "", None), "usual": _usual_words(normal)}


def _data(stage: Stage, state: str, words: str, detail: str, seconds: float | None) -> Line:
    return {
        "stage": stage.value,
        "state": state,
        "words": words,
        "detail": detail,
        "seconds": seconds,
        "usual": "",
        "overrun": False,
    }


def _usual_words(normal: Usual) -> str:
    if normal.p50_s < _USUAL_FROM_S:
        return ""
    return f"{'usually' if normal.measured else 'about'} {in_words(normal.p50_s)}"
