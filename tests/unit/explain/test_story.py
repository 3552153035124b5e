"""Stories only grow, say the same thing once, and survive an annotation that anybody may have written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.domain.stage import Stage, StartKind
from gpu_launcher.explain.story import Story, begin, dump_story, finish, load_story, next_attempt, stage_times, tell
from stories import NO_CAPACITY, Found, begun, stories, told


def test_a_cold_start_from_the_click_to_the_server() -> None:
    machine = {"instance_type": "g5.xlarge", "zone": "us-west-2b", "capacity_type": "on-demand"}
    story = told(
        (102, Found(Stage.FINDING_CAPACITY)),
        (104, Found(Stage.LAUNCHING, tried=("Spot had none in us-west-2b",))),
        (113, Found(Stage.BOOTING, "Machine is booting", **machine)),
        (154, Found(Stage.GPU_DRIVER)),
    )
    assert [(span.stage, span.words, span.seconds(160)) for span in story.spans] == [
        (Stage.QUEUED, "Asked for a session", 2),
        (Stage.FINDING_CAPACITY, "Asked for capacity", 2),
        (Stage.LAUNCHING, "Got a machine (on-demand)", 9),
        (Stage.BOOTING, "Machine g5.xlarge started (us-west-2b)", 41),
        (Stage.GPU_DRIVER, "Waiting for the GPU driver", 6),
    ]
    assert story.tried == ("Spot had none in us-west-2b",)
    assert (story.kind, story.zone, story.elapsed(160)) == (StartKind.COLD, "us-west-2b", 60)


def test_the_same_diagnosis_again_is_the_same_story() -> None:
    found = Found(Stage.BOOTING, "Machine is booting", tried=("Spot had none",), unknown=("nodes",))
    story = told((101, found))
    assert tell(story, found, 250) is story
    assert tell(story, Found(Stage.BOOTING, "Still booting", unknown=("nodes",)), 251) is not story


def test_a_stage_never_goes_back_but_its_words_follow() -> None:
    story = told(
        (101, Found(Stage.LAUNCHING)),
        (105, Found(Stage.FINDING_CAPACITY, "No capacity in us-west-2b, trying us-west-2c", tried=("us-west-2b",))),
    )
    assert [span.stage for span in story.spans] == [Stage.QUEUED, Stage.LAUNCHING]
    assert story.current.words == "No capacity in us-west-2b, trying us-west-2c"
    assert story.tried == ("us-west-2b",)


@pytest.mark.parametrize(
    ("since", "changed"),
    [(None, 160), (140.0, 140), (90.0, 120), (9e9, 160), (float("-inf"), 120)],
    ids=["unknown", "seen late", "before the stage", "in the future", "absurd"],
)
def test_t1_other_clocks_cannot_bend_the_story(since: float | None, changed: float) -> None:
    story = told((120, Found(Stage.LAUNCHING)), (160, Found(Stage.BOOTING, since=since)))
    assert (story.spans[1].ended, story.spans[2].began) == (changed, changed)


@pytest.mark.parametrize(
    ("expected", "found", "kind"),
    [
        (StartKind.WARM, Found(Stage.SCHEDULING), StartKind.WARM),
        (StartKind.WARM, Found(Stage.BOOTING), StartKind.COLD),
        (StartKind.COLD, Found(Stage.SCHEDULING, kind=StartKind.WARM), StartKind.WARM),
        (StartKind.UNKNOWN, Found(Stage.QUEUED, kind=StartKind.LUKEWARM), StartKind.LUKEWARM),
    ],
)
def test_the_kind_is_what_was_found(expected: StartKind, found: Found, kind: StartKind) -> None:
    assert told((101, found), story=begun(kind=expected)).kind is kind


def test_k13_a_pulled_image_makes_a_start_lukewarm_and_never_warm() -> None:
    story = told(
        (101, Found(Stage.PULLING_IMAGE, kind=StartKind.WARM)),
        (341, Found(Stage.STARTING, kind=StartKind.WARM)),
        story=begun(kind=StartKind.WARM),
    )
    assert story.kind is StartKind.LUKEWARM
    assert (Stage.PULLING_IMAGE, 240) in [(time.stage, time.seconds) for time in stage_times(story, 345)]


def test_another_attempt_begins_anew_and_keeps_what_was_tried() -> None:
    story = told((101, Found(Stage.LAUNCHING, zone="us-west-2b", capacity_type="spot")))
    other = next_attempt(story, "No spot capacity; trying on-demand", 130, profile=("l4", "L4"), pool_id="l4-1")
    assert (other.attempt, other.kind, other.zone, other.capacity_type) == (2, StartKind.UNKNOWN, "", "")
    assert (other.profile_id, other.profile_title, other.pool_id) == ("l4", "L4", "l4-1")
    failed, current = other.spans[-2:]
    assert (failed.failed, failed.words, failed.ended) == (True, "No spot capacity; trying on-demand", 130)
    assert (current.stage, current.began, current.ended) == (Stage.QUEUED, 130, None)
    assert other.tried == ("No spot capacity; trying on-demand",)
    # What the first attempt proved says nothing of the second.
    assert told((131, Found(Stage.SCHEDULING, kind=StartKind.WARM)), story=other).kind is StartKind.WARM


def test_endings() -> None:
    story = told((101, Found(Stage.SERVER_ANSWERING)))
    ready, refused, stopped = finish(story, 106), finish(story, 106, NO_CAPACITY), finish(story, 106, failed=True)
    assert [one.ready for one in (story, ready, refused, stopped)] == [False, True, False, False]
    assert refused.refusal is NO_CAPACITY
    assert ready.elapsed(9999) == 6
    for ended in (ready, refused, stopped):
        assert tell(ended, Found(Stage.SERVER_ANSWERING, "more"), 200) is ended
        assert next_attempt(ended, "more", 200) is ended
        assert finish(ended, 200, NO_CAPACITY) is ended


def test_a_clock_that_jumps_back_makes_nothing_negative() -> None:
    story = finish(told((150, Found(Stage.BOOTING)), (90, Found(Stage.STARTING))), 50)
    assert all(time.seconds >= 0 for time in stage_times(story))
    assert story.elapsed(50) == 0


@given(stories())
def test_every_story_is_one_line_of_time(story: Story) -> None:
    assert story.spans[0].began == story.began_at
    for one, other in zip(story.spans, story.spans[1:], strict=False):
        assert one.ended == other.began
        assert one.words
        # Only a failed attempt lets an earlier stage follow.
        assert one.failed or one.stage.place < other.stage.place
    assert (story.current.ended is None) == (story.ended_at is None)
    if story.ended_at is not None:
        assert sum(time.seconds for time in stage_times(story)) == pytest.approx(story.elapsed(0))


@given(stories())
def test_h1_a_story_survives_the_annotation(story: Story) -> None:
    assert load_story(dump_story(story)) == story
    assert len(dump_story(story)) < 20_000


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.sampled_from(sorted(json.loads(dump_story(begin("", "", 0.0))))), _JSON)
def test_any_annotation_loads_or_is_none(key: str, value: object) -> None:
    data = json.loads(dump_story(told((101, Found(Stage.BOOTING)), (110, Found(Stage.STARTING)))))
    loaded = load_story(json.dumps({**data, key: value}))
    if loaded is not None:
        load_story(dump_story(loaded))
        tell(loaded, Found(Stage.SERVER_ANSWERING), 500)


@pytest.mark.parametrize(
    "raw",
    [
        None,
        7,
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"version":2}',
        '{"version":1,"began":NaN,"spans":[]}',
        b"\xff",
        "1" * 5000,
    ],
)
def test_what_is_no_story_is_none(raw: object) -> None:
    assert load_story(raw) is None


def test_a_span_that_somebody_left_open_ends_where_the_next_begins() -> None:
    data = json.loads(dump_story(told((101, Found(Stage.BOOTING)))))
    data["spans"][0][4] = None
    loaded = load_story(json.dumps(data))
    assert loaded is not None
    assert loaded.spans[0].ended == 101
