"""What the pending page is given: lines that say what was, is and comes, with honest times."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.domain.stage import Stage, StartKind
from gpu_launcher.explain.eta import Eta, course, time_left
from gpu_launcher.explain.history import History
from gpu_launcher.explain.story import Story, finish, next_attempt
from gpu_launcher.explain.timeline import current_words, progress_percent, timeline
from stories import NO_CAPACITY, PUBLISHED, Found, begun, record, stories, told

BOOT, ANSWER = Stage.BOOTING, Stage.SERVER_ANSWERING


@dataclass(frozen=True)
class L4:
    profile_id: str = "l4"
    title: str = "L4"
    words: str = "ready now"
    usd_per_hour: float | None = 0.81


def shown(story: Story, now: float, history: History | None = None, **more: Any) -> dict[str, Any]:
    eta = time_left(history or History(), story, course(story.kind), now, PUBLISHED)
    data = timeline(story, now, history or History(), PUBLISHED, eta=eta, **more)
    return json.loads(json.dumps(data))


def test_a_cold_start_as_the_page_shows_it() -> None:
    machine = {"instance_type": "g5.xlarge", "zone": "us-west-2b", "capacity_type": "on-demand"}
    story = told((102, Found(BOOT, **machine)), (143, Found(Stage.GPU_DRIVER, detail="plugin not there yet")))
    data = shown(story, 163, usd_per_hour=1.006, image_bytes=7_800_000_000, alternatives=[L4()])
    assert (data["title"], data["server"], data["elapsed_s"], data["kind"]) == ("A10G", "train", 63, "cold")
    assert [(line["state"], line["words"], line["seconds"]) for line in data["lines"]] == [
        ("done", "Asked for a session", 2),
        ("done", "Machine g5.xlarge started (us-west-2b)", 41),
        ("now", "Waiting for the GPU driver", 20),
        ("ahead", "Placing the session", None),
        ("ahead", "Pulling the image (7.8 GB)", None),
        ("ahead", "Starting the session", None),
        ("ahead", "Server answers", None),
    ]
    assert data["lines"][2]["detail"] == "plugin not there yet"
    assert data["lines"][4]["usual"] == "about 2.5 min"
    assert data["price"] == {"usd_per_hour": 1.006, "words": "$1.01/h"}
    assert data["alternatives"] == [{"profile": "l4", "title": "L4", "words": "ready now", "usd_per_hour": 0.81}]
    assert data["eta"]["words"].startswith("about 3 min left (expected under")


def test_a_warm_start_promises_no_machine_and_no_image() -> None:
    data = shown(told((101, Found(Stage.SCHEDULING)), story=begun(kind=StartKind.WARM)), 101)
    assert [line["stage"] for line in data["lines"]] == ["queued", "scheduling", "starting", "server_answering"]
    assert data["eta"]["p50_s"] < 10


def test_an_unknown_kind_promises_nothing() -> None:
    data = shown(begun(kind=StartKind.UNKNOWN), 101)
    assert data["eta"] is data["price"] is data["refusal"] is None
    assert [line["state"] for line in data["lines"]] == ["now"]


def test_a_stage_that_overruns_says_so() -> None:
    history = History.of(record((BOOT, 35.0), (ANSWER, 5)) for _ in range(40))
    story = told((100, Found(BOOT)))
    lines = {line["state"]: line for line in shown(story, 120, history)["lines"]}
    assert (lines["now"]["usual"], lines["now"]["overrun"]) == ("usually 40 s", False)
    lines = {line["state"]: line for line in shown(story, 150, history)["lines"]}
    assert lines["now"]["usual"] == "taking longer than usual (9 of 10 take under 40 s)"
    assert lines["now"]["overrun"] is True


def test_a_refused_start_shows_where_it_failed() -> None:
    story = next_attempt(told((101, Found(Stage.LAUNCHING))), "Spot had none", 120)
    story = finish(told((121, Found(Stage.LAUNCHING, "Waiting for a machine")), story=story), 360, NO_CAPACITY)
    data = shown(story, 9999, reference="k3x9ab")
    assert [line["state"] for line in data["lines"]] == ["done", "failed", "done", "failed"]
    assert [line["words"] for line in data["lines"] if line["state"] == "failed"] == [
        "Spot had none",
        "Waiting for a machine",
    ]
    assert data["refusal"] == {"reason": "capacity", "message": NO_CAPACITY.message, "reference": "k3x9ab"}
    assert (data["elapsed_s"], data["eta"], data["ready"], data["tried"]) == (260, None, False, ["Spot had none"])


def test_one_line_for_readers_of_one_line() -> None:
    story = told((101, Found(BOOT, "Machine g5.xlarge is booting")))
    assert current_words(story) == "Machine g5.xlarge is booting"
    eta = Eta(50, 80, measured=True)
    assert current_words(story, eta) == "Machine g5.xlarge is booting, about 50 s left (usually under 1:30)"
    assert current_words(finish(story, 150, NO_CAPACITY)) == NO_CAPACITY.message
    assert current_words(finish(told((140, Found(ANSWER))), 150)) == "Server answers"


def test_percent_follow_the_expected_time_and_never_fall() -> None:
    story, eta = told((101, Found(BOOT))), Eta(60, 90, measured=True)
    assert progress_percent(story, eta, 160) == 50
    assert progress_percent(story, Eta(600, 900, measured=True), 161, at_least=50) == 50
    assert progress_percent(story, None, 160) == 0
    assert progress_percent(story, Eta(0, 0, measured=True), 1e9) == 99
    assert progress_percent(finish(story, 170), None, 170) == 100
    assert progress_percent(finish(story, 170, NO_CAPACITY), None, 170, 30) == 30


@given(stories(), st.floats(0, 5000))
def test_every_story_has_a_page(story: Story, later: float) -> None:
    data = shown(story, story.began_at + later)
    states = [line["state"] for line in data["lines"]]
    assert states.count("now") == (1 if story.ended_at is None else 0)
    assert states == sorted(states, key=["done", "failed", "now", "ahead"].index) or "failed" in states
    assert all(line["words"] and (line["seconds"] is None or line["seconds"] >= 0) for line in data["lines"])
