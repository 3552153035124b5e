"""What the page of a start does in a browser, against a server that plays the start; the whole way is on the lab."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from gpu_launcher.domain.usage import Person
from gpu_launcher.hub.cards import cards_of
from gpu_launcher.hub.form import render
from gpu_launcher.hub.offers import offers_of
from start_pages import (
    ALTERNATIVE,
    LINES,
    REFUSAL,
    TOKEN,
    Owner,
    Stage,
    Starting,
    failed,
    hub_page,
    line,
    pending,
    playing,
    told,
    told_of_failure,
)

pytestmark = pytest.mark.browser

OVERRUN = LINES[3] | {"seconds": 140.0, "usual": "taking longer than usual (9 of 10 take under 40 s)", "overrun": True}


@contextlib.asynccontextmanager
async def opened(page: Page, html: str, *, query: str = "") -> AsyncIterator[Stage]:
    """Show a page of a start and fail on any error of its scripts."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    async with playing(html) as stage:
        await page.goto(stage.url + query)
        yield stage
        await page.goto("about:blank")
    assert errors == []


def event(**data: Any) -> dict[str, Any]:
    """Return an event as the launcher sends it."""
    return {"progress": 50, "message": "x", "html_message": "x", "gpu_launcher": told(**data)}


def shown(page: Page, name: str) -> Any:
    return page.locator(f'#gpu-launcher-start [data-part="{name}"]').first


def next_stage(**more: Any) -> dict[str, Any]:
    """Return the data a little later: the driver is there, the image is pulled."""
    lines = [*LINES[:3], LINES[3] | {"state": "done", "words": "GPU ready", "seconds": 24.0, "usual": ""},
             LINES[4] | {"state": "now", "seconds": 0.0}, LINES[5]]  # fmt: skip
    return {"now": 1076.0, "elapsed_s": 76.0, "lines": lines} | more


async def test_lines_follow_the_start_and_each_stage_is_announced_once(page: Page) -> None:
    async with opened(page, await pending(Starting(told()))) as stage:
        lines = page.locator(".gpu-launcher-lines > li")
        await expect(lines.nth(3)).to_contain_text("◐")
        await expect(shown(page, "announced")).to_have_text("")
        stage.say(**event(**next_stage()))
        await expect(lines.nth(3)).to_contain_text("GPU ready")
        await expect(lines.nth(3)).to_contain_text("✓")
        await expect(lines.nth(4)).to_contain_text("◐")
        await expect(shown(page, "announced")).to_have_text("Pulling the image (7.8 GB)")
        words = [*next_stage()["lines"][:4], LINES[4] | {"state": "now", "words": "Pulling: 3 of 9"}, LINES[5]]
        stage.say(**event(**next_stage(now=1080.0, lines=words)))
        await expect(lines.nth(4)).to_contain_text("Pulling: 3 of 9")
        await expect(shown(page, "announced")).to_have_text("Pulling the image (7.8 GB)")


async def test_time_is_counted_between_events_and_the_estimate_with_it(page: Page) -> None:
    await page.clock.install()
    async with opened(page, await pending(Starting(told()))):
        await expect(shown(page, "clock")).to_have_text("1:12 elapsed · about 50 s left (usually under 1:30)")
        await page.clock.fast_forward(20_000)
        await expect(shown(page, "clock")).to_contain_text("1:3")
        await expect(shown(page, "clock")).to_contain_text("about 30 s left (usually under 1:30)")
        await expect(page.locator("li[data-state=now] .gpu-launcher-took")).to_contain_text("4")
        await page.clock.fast_forward(40_000)
        await expect(shown(page, "clock")).to_contain_text("· usually under 30 s left")
        await page.clock.fast_forward(60_000)
        await expect(shown(page, "clock")).to_contain_text("· longer than usual")


async def test_what_was_told_before_the_page_is_not_played_again(page: Page) -> None:
    async with opened(page, await pending(Starting(told()))) as stage:
        stage.say(**event(now=1001.0, elapsed_s=1.0, lines=[line("queued", "now", "Asking for a session")]))
        stage.say(**event(now=1073.0, elapsed_s=73.0, alternatives=[]))
        await expect(shown(page, "instead")).to_be_hidden()
        await expect(page.locator(".gpu-launcher-lines > li")).to_have_count(6)
        await expect(shown(page, "announced")).to_have_text("")


async def test_w1_what_arrives_is_text(page: Page) -> None:
    bad = "<img src=x onerror=\"document.title='owned'\">"
    async with opened(page, await pending(Starting(told()))) as stage:
        stage.say(**event(now=1080.0, title=bad, tried=[bad + "!"], unknown=[bad],
                          lines=[line("queued", "now", bad, detail=bad, usual=bad)],
                          alternatives=[ALTERNATIVE | {"title": bad}]))  # fmt: skip
        stage.say(progress=1, html_message=bad + "seen")
        await expect(shown(page, "messages-list")).to_have_text("seen")
        await expect(page.locator("#gpu-launcher-start img")).to_have_count(0)
        await expect(page.locator("h1")).to_contain_text("<img")


async def test_messages_of_others_are_listed(page: Page) -> None:
    async with opened(page, await pending(Starting(told()))) as stage:
        stage.say(progress=0, message="Server requested")
        stage.say(progress=10, message="A site's word")
        stage.say(progress=20, message="A site's word")
        stage.say(progress=30, message="A hook did something")
        await shown(page, "messages").locator("summary").click()
        messages = shown(page, "messages-list").locator("li")
        await expect(messages).to_have_text(["A site's word", "A hook did something"])


async def test_stop_stops_this_server_and_waits_until_it_is_gone(page: Page) -> None:
    async with opened(page, await pending(Starting(told(), user="a b", name="x/y"))) as stage:
        stage.stop_answers = [202, 204]
        stop = page.get_by_role("button", name="Stop")
        await stop.focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text('Stopped: A10G for "default"')
        await expect(page.get_by_role("heading", level=1)).to_be_focused()
        await expect(stop).to_be_hidden()
        asked = [request for request in stage.asked if request[0] == "DELETE"]
        assert asked == [("DELETE", "/hub/api/users/a%20b/servers/x%2Fy?_xsrf=2%7Ctoken", {"_xsrf": "2|token"})] * 2
        stage.say(progress=100, failed=True, message="Spawn cancelled")
        await expect(shown(page, "clock")).to_contain_text("after 1:1")
        await expect(page.locator(".gpu-launcher-lines > li")).to_have_count(4)
        await expect(shown(page, "refusal")).to_be_hidden()
        await page.get_by_role("button", name="Try A10G again").click()
        await expect(page).to_have_title("started")
        assert stage.asked[-1][2] == {"_xsrf": TOKEN, "profile": "a10g", "spot": "true"}


async def test_a_start_that_the_hub_calls_ready_while_it_is_stopped_is_not_followed(page: Page) -> None:
    async with opened(page, await pending(Starting(told()))) as stage:
        stage.stop_answers = [202, 204]
        await page.get_by_role("button", name="Stop").click()
        stage.over = True
        stage.say(progress=100, ready=True, message="Server ready", url="/user/ada/")
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Stopped")


@pytest.mark.parametrize(("status", "words"), [(403, "not allowed"), (500, "answer 500")])
async def test_a_stop_that_does_not_work_says_so_and_can_be_tried_again(page: Page, status: int, words: str) -> None:
    async with opened(page, await pending(Starting(told()))) as stage:
        stage.stop_answers = [status]
        stop = page.get_by_role("button", name="Stop")
        await stop.click()
        await expect(shown(page, "status")).to_contain_text(words)
        await expect(stop).to_be_enabled()
        await stop.click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Stopped")


async def test_an_alternative_ends_this_start_and_then_starts_the_other(page: Page) -> None:
    wanted = "?next=%2Fuser%2Fada%2Flab%2Ftree%2Fa.ipynb"
    async with opened(page, await pending(Starting(told())), query=wanted) as stage:
        stage.stop_answers = [202, 204]
        button = page.get_by_role("button", name="L4 · ready now · $0.81/h")
        await button.dblclick()
        await expect(page).to_have_title("started")
        assert [request[0] for request in stage.asked if request[0] != "GET"] == ["DELETE", "DELETE", "POST"]
        _, path, fields = stage.asked[-1]
        assert path == f"/hub/spawn/ada{wanted}"
        assert fields == {"_xsrf": TOKEN, "profile": "l4"}


async def test_alternatives_come_and_go(page: Page) -> None:
    async with opened(page, await pending(Starting(told(alternatives=[])))) as stage:
        await expect(shown(page, "instead")).to_be_hidden()
        two = [ALTERNATIVE, ALTERNATIVE | {"profile": "t4", "title": "T4", "usd_per_hour": None}]
        stage.say(**event(now=1080.0, alternatives=two))
        await expect(page.get_by_role("button", name="T4 · ready now")).to_be_visible()
        await page.get_by_role("button", name="T4 · ready now").click()
        await expect(page).to_have_title("started")
        assert stage.asked[-1][2] == {"_xsrf": TOKEN, "profile": "t4"}


async def test_the_same_page_turns_into_the_reason_with_the_story_kept(page: Page) -> None:
    async with opened(page, await pending(Starting(told()))) as stage:
        stage.say(**event(**told_of_failure()))
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("No A10G could be had in us-west-2")
        await expect(alert).to_contain_text("7f3a21")
        await expect(page.get_by_role("heading", level=1)).to_have_text('A10G for "default" did not start')
        await expect(page.locator(".gpu-launcher-lines > li").nth(1)).to_contain_text("✕")
        await expect(page.get_by_role("button", name="Stop")).to_be_hidden()
        stage.say(progress=100, failed=True, message="Spawn failed: x")
        await page.wait_for_function("() => document.querySelector('[data-part=price]').textContent === ''")
        await expect(page.get_by_role("link", name="All profiles")).to_be_visible()
        assert not [request for request in stage.asked if request[0] == "DELETE"]


async def test_a_button_pressed_while_the_hub_still_cleans_up_waits_for_it(page: Page) -> None:
    async with opened(page, await pending(Starting(told()))) as stage:
        stage.say(**event(**told_of_failure()))
        stage.stop_answers = [202, 204]
        await page.get_by_role("button", name="Try A10G again").click()
        await expect(page).to_have_title("started")
        assert [request[0] for request in stage.asked if request[0] != "GET"] == ["DELETE", "DELETE", "POST"]


async def test_a_failure_that_only_the_hub_knows_is_told_by_its_page(page: Page) -> None:
    async with opened(page, await pending(Starting(told()))) as stage:
        stage.after, stage.over = await failed(Starting(told_of_failure(refusal=None)), RuntimeError("canary")), True
        stage.say(progress=100, failed=True, message="Spawn failed: canary")
        await expect(page.get_by_role("alert")).to_contain_text("the fault is not yours")
        await expect(page.locator("body")).not_to_contain_text("canary")


async def test_the_end_goes_to_the_notebook(page: Page) -> None:
    async with opened(page, await pending(Starting(told()))) as stage:
        stage.over = True
        stage.say(progress=100, ready=True, message="Server ready", url="/user/ada/")
        await expect(page).to_have_title("notebook")


async def test_a_hub_that_is_away_is_waited_for(page: Page) -> None:
    await page.clock.install()
    async with opened(page, await pending(Starting(told()))) as stage:
        stage.away = True
        stage.events.put_nowait(None)
        await expect(shown(page, "status")).to_contain_text("does not answer at the moment", timeout=10_000)
        async with page.expect_response(lambda answer: answer.status == 503):
            await page.clock.fast_forward(6_000)
        await page.wait_for_timeout(100)
        await expect(page.get_by_role("heading", level=1)).to_have_text('Starting A10G for "default"')
        stage.away, stage.over = False, True
        await page.clock.fast_forward(6_000)
        await expect(page).to_have_title("notebook")


async def test_without_scripts_the_buttons_of_a_failure_work(browser: Browser) -> None:
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    async with playing(await failed(Starting(told_of_failure()))) as stage:
        await page.goto(stage.url)
        await page.get_by_role("button", name="L4 · ready now").click()
        await expect(page).to_have_title("started")
        assert stage.asked[-1][2] == {"_xsrf": TOKEN, "profile": "l4"}
    await context.close()


# Everybody: seen in both themes and on a phone, read by machines, operated by keyboard.


async def form_page() -> str:
    images = [{"id": one, "display_name": one, "reference": f"quay.io/site/{one}:1"} for one in ("pytorch", "jax")]
    profiles = [
        {"id": "a10g", "display_name": "A10G", "default": True, "gpu": {"name": "a10g"}, "spot_choice": True,
         "images": images},
        {"id": "l4", "display_name": "L4", "gpu": {"name": "l4"}},
        {"id": "never", "display_name": "Never", "gpu": {"name": "a100", "memory": ">=500Gi"}},
    ]  # fmt: skip
    cards = cards_of(offers_of({"version": 1, "profiles": profiles}), Person("ada"), None)
    owner = Owner()
    return await hub_page(
        "spawn.html", user=owner, for_user=owner, spawner_options_form=render(cards), url="/hub/spawn/ada"
    )


async def pages() -> dict[str, tuple[str, str]]:
    """Return each page with the part of it that is ours."""
    unknown = ["which machines are on their way"]
    overrun = told(lines=[*LINES[:3], OVERRUN, *LINES[4:]], unknown=unknown, tried=["Spot had none in us-west-2c"])
    return {
        "start": (await pending(Starting(told())), "#gpu-launcher-start"),
        "start-overrun": (await pending(Starting(overrun)), "#gpu-launcher-start"),
        "start-failed": (await failed(Starting(told_of_failure(refusal=REFUSAL))), "#gpu-launcher-start"),
        "form": (await form_page(), "#spawn_form"),
    }


@pytest.mark.parametrize("name", ["start", "start-overrun", "start-failed", "form"])
async def test_axe_finds_nothing_and_nothing_sticks_out(page: Page, shots: Path, name: str) -> None:
    html, ours = (await pages())[name]
    await page.emulate_media(reduced_motion="reduce")  # colours that fade into the other theme are neither of the two
    async with opened(page, html):
        for theme in ("light", "dark"):
            await page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
            await expect(page.locator("html")).to_have_attribute("data-bs-theme", theme)
            for width in (400, 1280):
                await page.set_viewport_size({"width": width, "height": 900})
                await page.screenshot(path=shots / f"{name}-{theme}-{width}.png", full_page=True)
                assert await page.evaluate("document.documentElement.scrollWidth") <= width
            found = await Axe().run(page, context=ours)
            assert found.violations_count == 0, f"{name}: {found.generate_report()}"


async def test_everything_is_reached_by_keyboard_in_order(page: Page) -> None:
    async with opened(page, await pending(Starting(told()))):
        await page.locator("h1").focus()
        reached = []
        for _ in range(2):
            await page.keyboard.press("Tab")
            reached.append(await page.evaluate("document.activeElement.textContent"))
        assert reached == ["Stop", "L4 · ready now · $0.81/h"]


async def test_nothing_moves_for_those_who_do_not_want_it(page: Page) -> None:
    moves = "getComputedStyle(document.querySelector('li[data-state=now] > :first-child')).animationName"
    async with opened(page, await pending(Starting(told()))):
        assert await page.evaluate(moves) != "none"
        await page.emulate_media(reduced_motion="reduce")
        assert await page.evaluate(moves) == "none"


async def test_the_forms_button_says_what_it_starts(page: Page) -> None:
    async with opened(page, await form_page()):
        start = page.locator("#spawn_form button[type=submit]")
        await expect(start).to_have_text("Start A10G")
        await page.locator("label", has_text="L4").click()
        await expect(start).to_have_text("Start L4")
        await page.get_by_label("Image").select_option("jax")
        await expect(start).to_have_text("Start A10G")
