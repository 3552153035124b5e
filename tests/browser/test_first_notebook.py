"""The whole way on a real hub: log in, pick a GPU, follow the start, run a cell; and the way that fails."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from gpu_launcher.cluster.errors import NotFound
from gpu_launcher.cluster.paths import core, group
from gpu_launcher.lab.handle import Lab
from gpu_launcher.lab.hub import Hub

pytestmark = [pytest.mark.lab, pytest.mark.hub, pytest.mark.browser]


async def log_in(page: Page, hub: Hub, user: str) -> None:
    await page.goto(f"{hub.url}/hub/login?next=/hub/spawn")
    await page.fill("#username_input", user)
    await page.fill("#password_input", hub.password)
    await page.click("#login_submit")


async def both_widths(page: Page, shots: Path, name: str) -> None:
    """Take pictures, wide and narrow, light and dark; axe must find nothing in either theme."""
    for theme in ("light", "dark"):
        await page.emulate_media(color_scheme=theme)
        for width in (1280, 400):
            await page.set_viewport_size({"width": width, "height": 900})
            await page.screenshot(path=shots / f"{name}-{theme}-{width}.png", full_page=True)
        found = await Axe().run(page, context="#gpu-launcher-start")
        assert found.violations_count == 0, found.generate_report()
    await page.emulate_media(color_scheme="light")
    await page.set_viewport_size({"width": 1280, "height": 900})


async def test_a_person_picks_an_a10g_and_runs_a_cell(page: Page, lab: Lab, launcher_hub: Hub, shots: Path) -> None:
    await log_in(page, launcher_hub, "ada")
    await expect(page.get_by_role("radio", name="A10G")).to_be_visible()
    await page.screenshot(path=shots / "spawn-light.png", full_page=True)

    await page.locator("label", has_text="A10G · 24 GB").click()
    await expect(page.get_by_role("radio", name="A10G")).to_be_checked()
    await page.get_by_role("button", name="Start A10G").click()
    await expect(page.get_by_role("heading", name="Starting A10G")).to_be_visible()
    await expect(page.locator('[data-state="now"]')).to_contain_text("Machine g5.xlarge started", timeout=60_000)
    first = await page.locator('[data-part="clock"]').text_content()
    assert "left" in str(first), "the kind of the start is known by now, so what is left is too"
    await both_widths(page, shots, "pending")

    await page.wait_for_url("**/user/ada/lab**", timeout=120_000)
    await page.locator(".jp-Launcher").wait_for(timeout=60_000)
    async with lab.api() as api:
        claims = (await api.get("/apis/karpenter.sh/v1/nodeclaims"))["items"]
    assert "g5.xlarge" in {claim["metadata"]["labels"].get("node.kubernetes.io/instance-type") for claim in claims}

    await page.locator('.jp-LauncherCard[data-category="Notebook"]').first.click()
    await page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
    cell = page.locator(".jp-Notebook .jp-Cell .cm-content").first
    await cell.click()
    await page.keyboard.type("print(6*7)")
    await page.keyboard.press("Shift+Enter")
    output = page.locator(".jp-Notebook .jp-OutputArea-output").first
    await expect(output).to_have_text("42", timeout=60_000)
    await page.screenshot(path=shots / "notebook.png", full_page=True)
    await launcher_hub.stop_server("ada")


async def test_a_start_without_a_machine_says_why_and_the_alternative_is_one_click(
    page: Page, lab: Lab, launcher_hub: Hub, shots: Path
) -> None:
    lab.faults.ice("g5.*")
    try:
        await log_in(page, launcher_hub, "zoe")
        await page.locator("label", has_text="A10G · 24 GB").click()
        await page.locator('select[name="profile-option-a10g--image"]').select_option("jax")
        # A machine that is left from another test would be good enough.
        await lab_without_machines(lab, "g5.")
        await page.get_by_role("button", name="Start A10G").click()
        now = page.locator('[data-state="now"]')
        await expect(now).to_contain_text("The cloud has none now", timeout=30_000)
        before = await page.locator('[data-part="clock"]').text_content()
        await both_widths(page, shots, "no-capacity")
        refusal = page.locator('[data-part="refusal"]')
        await expect(refusal).to_be_visible(timeout=60_000)
        assert await page.locator('[data-part="clock"]').text_content() != before
        await expect(refusal).to_contain_text("could be had from the cloud")
        await expect(page.locator('[data-part="reference"]')).to_have_text(re.compile("[0-9a-f]{6}"))
        await both_widths(page, shots, "refused")
        async with lab.api() as api:
            pods = (await api.get(core("pods", namespace=launcher_hub.namespace)))["items"]
        assert not [
            pod for pod in pods if (pod["metadata"].get("annotations") or {}).get("hub.jupyter.org/username") == "zoe"
        ]
        await page.get_by_role("button", name="L4, spot first").click()
        await page.wait_for_url("**/user/zoe/lab**", timeout=120_000)
    finally:
        lab.faults.clear()
        await launcher_hub.stop_server("zoe")


async def lab_without_machines(lab: Lab, prefix: str) -> None:
    """Delete the NodeClaims of these types that nobody uses, and wait until they are gone."""
    async with lab.api() as api, asyncio.timeout(60):
        path = group("karpenter.sh/v1", "nodeclaims")
        while found := [
            claim["metadata"]["name"]
            for claim in (await api.get(path))["items"]
            if claim["metadata"]["labels"].get("node.kubernetes.io/instance-type", "").startswith(prefix)
        ]:
            for name in found:
                with contextlib.suppress(NotFound):
                    await api.delete(group("karpenter.sh/v1", "nodeclaims", name=name))
            await asyncio.sleep(0.5)
