"""The pages of a start, within JupyterHub's own templates of this set of packages."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bs4 import BeautifulSoup
from traitlets.config import Config

from gpu_launcher.domain.outcomes import Refusal, RefusalReason
from gpu_launcher.explain.alternatives import Alternative
from gpu_launcher.hub.configure import configure
from gpu_launcher.hub.pages import MARKS, SPOKEN, TEMPLATES, UNEXPECTED, clock, fields_of
from gpu_launcher.hub.refusal import StartRefused
from start_pages import (
    ALTERNATIVE,
    LINES,
    REFUSAL,
    TOKEN,
    Owner,
    Starting,
    failed,
    hub_page,
    line,
    pending,
    told,
    told_of_failure,
)

HOSTILE = "</script><script>alert(1)</script>{{ 7*7 }}\"'><img src=x onerror=alert(1)>"


def soup_of(html: str) -> BeautifulSoup:
    return BeautifulSoup(html, "html.parser")


def start_of(html: str) -> Any:
    found = soup_of(html).select_one("#gpu-launcher-start")
    assert found is not None
    return found


def text_of(element: Any) -> str:
    return " ".join(element.get_text(" ").split())


def part(root: Any, name: str) -> Any:
    return root.select_one(f'[data-part="{name}"]')


# A start that goes on.


async def test_the_timeline_reads_without_scripts() -> None:
    root = start_of(await pending(Starting(told())))
    assert text_of(root.h1) == 'Starting A10G for "default"'
    assert text_of(part(root, "clock")) == "1:12 elapsed · about 50 s left (usually under 1:30)"
    assert [text_of(item) for item in part(root, "lines").find_all("li")] == [
        "✓ done: Asked for a session 2 s",
        "✓ done: Spot had none in us-west-2b, on-demand found 9 s",
        "✓ done: Machine g5.xlarge started (us-west-2b) 41 s",
        "◐ now: Waiting for the GPU driver 20 s usually 30 s",
        "○ to come: Pulling the image (7.8 GB) usually 40 s",
        "○ to come: Server answers usually 4 s",
    ]
    assert part(root, "tried").has_attr("hidden"), "a line says it already"
    assert text_of(part(root, "price")) == "$1.01/h from the moment the machine runs"


async def test_without_scripts_the_page_reloads_itself_and_offers_only_what_works() -> None:
    html = await pending(Starting(told()))
    assert [tag["content"] for tag in soup_of(html).select("head noscript meta[http-equiv=refresh]")] == ["15"]
    root = start_of(html)
    assert root.find("noscript").a["href"] == ""
    for name in ("stop", "instead", "again", "choose", "refusal"):
        assert part(root, name).has_attr("hidden"), name


@pytest.mark.parametrize(
    ("user", "name", "server", "spawn"),
    [
        ("ada", "", "/hub/api/users/ada/server", "/hub/spawn/ada"),
        ("ada", "train", "/hub/api/users/ada/servers/train", "/hub/spawn/ada/train"),
        (
            "a b/c",
            "x y?&\"'",
            "/hub/api/users/a%20b%2Fc/servers/x%20y%3F%26%22%27",
            "/hub/spawn/a%20b%2Fc/x%20y%3F%26%22%27",
        ),
    ],
)
async def test_stop_and_the_buttons_are_about_the_server_that_is_shown(
    user: str, name: str, server: str, spawn: str
) -> None:
    root = start_of(await pending(Starting(told(), user=user, name=name)))
    token = "?_xsrf=2%7Ctoken"
    assert root["data-server"] == server + token
    assert root["data-progress"] == f"{server}/progress{token}"
    assert {form["action"] for form in root.find_all("form")} == {spawn}
    assert {form["method"] for form in root.find_all("form")} == {"post"}


async def test_what_the_decision_changed_is_said() -> None:
    spawner = Starting(told())
    spawner.notice = "The profile of your last start is not available any more; <b> starts instead."
    assert "<b> starts instead" in text_of(start_of(await pending(spawner)))


async def test_before_the_first_word_the_page_stands() -> None:
    root = start_of(await pending(Starting({}, name="train")))
    assert text_of(root.h1) == 'Starting your server for "train"'
    assert json.loads(part(root, "data").string)["lines"] == []


async def test_another_spawner_has_jupyterhubs_own_page() -> None:
    user = Owner()
    spawner = SimpleNamespace(user=user, name="", _progress_url="/hub/api/users/ada/server/progress", pending="spawn")
    html = await pending(spawner)
    assert "gpu-launcher" not in html
    assert 'id="progress-bar"' in html
    assert "new EventSource" in html
    user.spawners[""] = spawner
    html = await failed(spawner)
    assert "gpu-launcher" not in html
    assert "Spawn failed" in html


async def test_of_two_scripts_only_ours_follows_the_start() -> None:
    html = await pending(Starting(told()))
    assert html.count("new EventSource") == 1
    assert "progress-bar" not in html


async def test_a_server_that_only_does_not_run_has_jupyterhubs_own_page() -> None:
    spawner = Starting(told_of_failure())
    html = await hub_page("not_running.html", user=spawner.user, server_name="", spawn_url="/hub/spawn/ada",
                          implicit_spawn_seconds=3)  # fmt: skip
    assert "Server not running" in html
    assert "implicit_spawn_seconds = 3" in html


async def test_the_sites_own_frame_stays(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        '{% extends "templates/page.html" %}{% block script %}{{ super() }}<i id="site"></i>{% endblock %}'
    )
    for html in (
        await pending(Starting(told()), site=tmp_path),
        await failed(Starting(told_of_failure()), site=tmp_path),
    ):
        assert soup_of(html).select_one("#site")
        assert soup_of(html).select_one("#gpu-launcher-start")


# A start that failed.


def refused(message: str = REFUSAL["message"], reference: str = "7f3a21") -> StartRefused:
    refusal = StartRefused(Refusal(RefusalReason.CAPACITY, message))
    refusal.reference = reference
    refusal.alternatives = (Alternative("l4", "L4", "ready now", 0.81, True),)
    return refusal


async def test_a_failure_says_why_and_what_to_do_and_keeps_the_story() -> None:
    root = start_of(await failed(Starting(told_of_failure()), refused()))
    assert text_of(root.h1) == 'A10G for "default" did not start'
    assert text_of(part(root, "message")) == REFUSAL["message"]
    assert text_of(part(root, "reference")) == "7f3a21"
    assert "✕ failed: Waiting for the cloud to give a machine 4:10" in text_of(part(root, "lines"))
    assert text_of(part(root, "tried-list")) == "Spot had none in us-west-2b"
    assert text_of(part(root, "clock")) == "4:12 in all"
    assert not part(root, "price").get_text(), "nothing costs any more"
    assert root["data-phase"] == "ended"


async def test_the_buttons_of_a_failure_are_forms_that_need_no_script() -> None:
    spawner = Starting(told_of_failure(), options={"profile": "a10g", "spot": True, "gpus": 2, "many": ["x", "y"]})
    root = start_of(await failed(spawner, refused()))
    other, again = root.select("form:not(template form)")
    assert text_of(other.button) == "L4 · ready now · $0.81/h"
    assert [(field["name"], field["value"]) for field in other.select("input")] == [("_xsrf", TOKEN), ("profile", "l4")]
    assert text_of(again.button) == "Try A10G again"
    assert [(field["name"], field["value"]) for field in again.select("input")] == [
        ("_xsrf", TOKEN), ("profile", "a10g"), ("spot", "true"), ("gpus", "2"), ("many", "x"), ("many", "y"),
    ]  # fmt: skip
    for form in (other, again):
        assert form["action"] == "/hub/spawn/ada"
        assert not form.find_parent(hidden=True)
    assert not part(root, "choose").has_attr("hidden")


async def test_a_refusal_before_the_start_does_not_tell_the_story_of_an_earlier_one() -> None:
    root = start_of(await failed(Starting(told_of_failure()), refused("Too many GPUs.", reference="")))
    assert text_of(part(root, "message")) == "Too many GPUs."
    assert part(root, "lines").has_attr("hidden")
    assert part(root, "reference-line").has_attr("hidden")


async def test_a_defect_is_not_the_users_and_shows_nothing_of_the_exception() -> None:
    lines = [LINES[0], line("starting", "failed", "Starting the session")]
    html = await failed(Starting(told_of_failure(refusal=None, lines=lines)), RuntimeError("canary 500 Traceback"))
    root = start_of(html)
    assert text_of(part(root, "message")) == UNEXPECTED
    assert text_of(part(root, "reference")) == "c0ffee"
    assert "failed: Starting the session" in text_of(part(root, "lines"))
    for word in ("canary", "RuntimeError", "500", "Traceback"):
        assert word not in text_of(root)


async def test_words_of_a_sites_own_hook_are_shown_as_jupyterhub_shows_them() -> None:
    error = RuntimeError("canary")
    error.jupyterhub_message = "No home directory."  # type: ignore[attr-defined]
    root = start_of(await failed(Starting(told_of_failure(refusal=None)), error))
    assert text_of(part(root, "message")) == "No home directory."
    error.jupyterhub_html_message = "No <a href='/help'>home</a>."  # type: ignore[attr-defined]
    root = start_of(await failed(Starting(told_of_failure(refusal=None)), error))
    assert part(root, "message").a["href"] == "/help"


# Nothing that anybody else wrote becomes a tag, a handler or a second template.


class Tags(HTMLParser):
    """Collects tags and attributes that run something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "img", "iframe", "object", "embed"):
            self.found.append(tag)
        self.found += [name for name, _ in attrs if name.startswith("on")]


def ours(html: str) -> str:
    return html[html.index("<style>.gpu-launcher-start") : html.rindex("</main>")]


def hostile(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data with every text of a person, an admin or the cluster replaced."""
    lines = [one | {"words": HOSTILE, "detail": HOSTILE, "usual": HOSTILE} for one in data["lines"]]
    return data | {
        "title": HOSTILE, "server": HOSTILE, "lines": lines, "tried": [HOSTILE + "2"], "unknown": [HOSTILE],
        "alternatives": [ALTERNATIVE | {"profile": HOSTILE, "title": HOSTILE, "words": HOSTILE}],
        "refusal": data["refusal"] and {"reason": HOSTILE, "message": HOSTILE, "reference": HOSTILE},
    }  # fmt: skip


@pytest.mark.parametrize("ended", [False, True])
async def test_w1_w2_hostile_words_stay_words(ended: bool) -> None:
    spawner = Starting(hostile(told_of_failure() if ended else told()), name="x", options={HOSTILE: HOSTILE})
    spawner.notice = HOSTILE
    html = ours(await (failed(spawner, refused(HOSTILE, HOSTILE)) if ended else pending(spawner)))
    tags = Tags()
    tags.feed(html)
    assert tags.found == ["script"], "our data; the module comes after it"
    assert "alert(1)</script>" not in html
    assert "49" not in html.replace("0.49", ""), "nothing is rendered twice"
    root = start_of(html + "</main>")
    assert json.loads(part(root, "data").string)["title"] == HOSTILE
    assert HOSTILE in root.h1.get_text()


async def test_w3_looking_changes_nothing_and_every_button_carries_the_token() -> None:
    for html in (await pending(Starting(told())), await failed(Starting(told_of_failure()), refused())):
        root = start_of(html)
        for form in root.find_all("form"):
            assert form.select_one("input[name=_xsrf]")["value"] == TOKEN
        assert [link.get("href") for link in root.find_all("a")] in (["/hub/spawn/ada", ""], ["/hub/spawn/ada"])


async def test_w9_no_inline_handler_and_nothing_from_elsewhere() -> None:
    for html in (await pending(Starting(told())), await failed(Starting(told_of_failure()), refused())):
        root = start_of(html)
        assert not [name for tag in root.find_all(True) for name in tag.attrs if name.startswith("on")]
        assert "://" not in ours(html)


# Small things.


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1, "0:00"), (6.9, "0:06"), (72, "1:12"), (600, "10:00"), (3723, "1:02:03")]
)
def test_a_time_that_has_passed(seconds: float, words: str) -> None:
    assert clock(seconds) == words


@pytest.mark.parametrize("options", [None, [], "x", 3, {"profile": {"deep": 1}}, {"profile": None}])
def test_options_that_no_form_can_send_are_left_out(options: Any) -> None:
    assert list(fields_of(options)) == []


def test_the_script_writes_the_same_marks_and_words() -> None:
    script = (TEMPLATES.parent / "static" / "start.js").read_text()
    for words in (*MARKS.values(), *SPOKEN.values()):
        assert f'"{words}"' in script


# Where the hub finds the pages.

PROFILES = [{"id": "cpu", "display_name": "CPU", "size": {"cpu": "1", "memory": "1Gi"}}]


def paths(before: Any) -> list[str]:
    config = Config()
    before(config)
    configure(config, profiles=PROFILES)
    configure(config, profiles=PROFILES)
    found = config.JupyterHub.template_paths
    return found if isinstance(found, list) else found.get_value(["base"])


def test_our_pages_come_before_the_hubs_and_after_the_sites() -> None:
    ours = str(TEMPLATES)
    assert paths(lambda c: None) == [ours, "base"]
    assert paths(lambda c: setattr(c.JupyterHub, "template_paths", ["site"])) == ["site", ours]
    assert paths(lambda c: c.JupyterHub.template_paths.insert(0, "site")) == ["site", ours, "base"]


async def test_a_template_of_the_sites_own_wins(tmp_path: Path) -> None:
    (tmp_path / "spawn_pending.html").write_text("ours")
    assert await pending(Starting(told()), site=tmp_path) == "ours"
