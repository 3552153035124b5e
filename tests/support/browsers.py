"""A logged-in browser without scripts: pages as a form or a link would ask for them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

import aiohttp


class Browser:
    """GET and POST of pages, with the hub's protection against forged requests."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url, self.session = url, session

    @property
    def _xsrf(self) -> str:
        cookies = [cookie for cookie in self.session.cookie_jar if cookie.key == "_xsrf"]
        # The cookie of the hub's path is the one that it reads.
        return max(cookies, key=lambda cookie: len(cookie["path"])).value

    async def get(self, path: str, **query: str) -> tuple[int, str]:
        """Return status and text; redirects to starting pages are not followed."""
        async with self.session.get(self.url + path, params=query, allow_redirects=path == "/hub/login") as answer:
            return answer.status, await answer.text()

    async def post(self, path: str, fields: Mapping[str, str]) -> tuple[int, str]:
        """Post a form as the browser would."""
        form = aiohttp.FormData()
        for name, value in {"_xsrf": self._xsrf, **fields}.items():
            form.add_field(name, value, content_type="text/plain")
        async with self.session.post(
            self.url + path, data=form, params={"_xsrf": self._xsrf}, allow_redirects=False
        ) as answer:
            return answer.status, await answer.text()


@contextlib.asynccontextmanager
async def logged_in(url: str, user: str, password: str | None = None) -> AsyncIterator[Browser]:
    """A browser in which ``user`` has logged in; ``password`` None is for hubs that take any."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, headers={"Sec-Fetch-Mode": "navigate"}) as session:
        browser = Browser(url, session)
        await browser.get("/hub/login")
        await browser.post("/hub/login", {"username": user, "password": "any" if password is None else password})
        yield browser
