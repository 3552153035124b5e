"""The outcome of it all: log in, pick a GPU, run a cell."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from gpu_launcher.lab.handle import Lab
from gpu_launcher.lab.hub import Hub

pytestmark = [pytest.mark.lab, pytest.mark.hub, pytest.mark.browser]


async def log_in(page: Page, hub: Hub, user: str) -> None:
    await page.goto(f"{hub.url}/hub/login?next=/hub/spawn")
    await page.fill("#username_input", user)
    await page.fill("#password_input", hub.password)
    await page.click("#login_submit")


async def test_a_person_picks_an_a10g_and_runs_a_cell(page: Page, lab: Lab, launcher_hub: Hub, shots: Path) -> None:
    await log_in(page, launcher_hub, "ada")
    await expect(page.get_by_role("radio", name="A10G")).to_be_visible()
    await page.screenshot(path=shots / "spawn-light.png", full_page=True)

    await page.get_by_text("A10G · 24 GB").click()
    await expect(page.get_by_role("radio", name="A10G")).to_be_checked()
    await page.get_by_role("button", name="Start A10G").click()
    await page.screenshot(path=shots / "pending.png", full_page=True)

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
