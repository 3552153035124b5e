"""A headless Chromium, Debian's: the tests drive the pages that people see."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright

# Chromium asks its maker's servers for updates and experiments otherwise.
_QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.fail("chromium is not installed: apt-get install chromium (./dev test does it as root)")
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=executable, args=_QUIET)
        yield chromium
        await chromium.close()


@pytest.fixture
def shots() -> Path:
    """Where screenshots go, to be looked at; never compared."""
    directory = Path(os.environ.get("GPU_LAUNCHER_SHOTS", ".shots"))
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    opened = await context.new_page()
    yield opened
    await context.close()
