"""Whether a server answers, known as soon as it does."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

# The hub itself asks with growing pauses of up to 5 s. A refused connection costs next to nothing.
_PAUSE_S = 0.05
# Packets to a new pod may be lost, and the system only tries again after 1, 3 and 7 s. A TLS handshake takes longer.
_CONNECT_S = 0.3
# A server that accepts and then says nothing is asked again after this.
_ANSWER_S = 10.0


async def answered(url: str, context: ssl.SSLContext | None = None) -> None:
    """Return as soon as a server answers at *url* with anything below 500; never, if it never does.

    That is JupyterHub's own rule for a server that is up, so the hub's check afterwards succeeds at once.
    """
    while True:
        if await _answers(url, context):
            return
        await asyncio.sleep(_PAUSE_S)


async def _answers(url: str, context: ssl.SSLContext | None) -> bool:
    # One bare connection: hundreds of servers are asked at once, twenty times a second each.
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(_ANSWER_S):
            async with asyncio.timeout(_ANSWER_S if secure else _CONNECT_S):
                reader, writer = await asyncio.open_connection(
                    parts.hostname, port, ssl=(context or True) if secure else None
                )
            writer.write(request.encode())
            return _is_up(await reader.readline())
    except (OSError, ValueError):
        # TimeoutError is an OSError; a line without an end is a ValueError.
        return False
    finally:
        if writer is not None:
            writer.close()


def _is_up(line: bytes) -> bool:
    """Return whether a status line is that of an answer below 500."""
    words = line.split()
    return len(words) > 1 and words[0].startswith(b"HTTP/") and words[1].isdigit() and int(words[1]) < 500
