"""Whether a server answers, known as soon as it does."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any
from urllib.parse import urlsplit

import aiohttp

# The hub itself asks with growing pauses of up to 5 s. A refused connection costs next to nothing.
_PAUSE_S = 0.05
# A server that accepts and then says nothing is asked again after this.
_ANSWER_S = 10.0


async def answered(url: str, context: ssl.SSLContext | None = None) -> None:
    """Return as soon as a server answers at *url* with anything below 500; never, if it never does.

    That is JupyterHub's own rule for a server that is up, so the hub's check afterwards succeeds at once.
    """
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    secure: Any = context if context is not None else True
    while True:
        if await _listens(str(parts.hostname), port) and await _answers(url, secure):
            return
        await asyncio.sleep(_PAUSE_S)


async def _listens(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_ANSWER_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def _answers(url: str, secure: Any) -> bool:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ANSWER_S)) as session,
            session.get(url, allow_redirects=False, ssl=secure) as response,
        ):
            return response.status < 500
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False
