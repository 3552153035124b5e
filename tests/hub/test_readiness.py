"""When a server counts as answering: JupyterHub's own rule, on whatever answers."""

from __future__ import annotations

import asyncio

import pytest

from gpu_launcher.hub import readiness
from gpu_launcher.hub.readiness import answered

UP = b"HTTP/1.1 200 OK\r\n\r\n"


async def asked(monkeypatch: pytest.MonkeyPatch, *answers: bytes) -> list[bytes]:
    """Return what the server was asked until it counted as answering; it answers these, one connection each."""
    monkeypatch.setattr(readiness, "_PAUSE_S", 0.001)
    monkeypatch.setattr(readiness, "_ANSWER_S", 0.02)
    requests: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        said = answers[len(requests) - 1]
        if said == b"nothing":
            await asyncio.sleep(0.1)
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(1):
            await answered(f"http://127.0.0.1:{port}/user/ann/api")
    return requests


@pytest.mark.parametrize("up", [UP, b"HTTP/1.0 302 Found\r\n\r\n", b"HTTP/1.1 404 Not Found\r\n\r\n"])
async def test_any_answer_below_500_counts(monkeypatch: pytest.MonkeyPatch, up: bytes) -> None:
    assert [request.split()[1] for request in await asked(monkeypatch, up)] == [b"/user/ann/api"]


@pytest.mark.parametrize(
    "down",
    [b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b"", b"HTTP/1.1\r\n", b"SSH-2.0\r\n", b"x" * 100_000, b"nothing"],
)
async def test_what_is_no_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch, down: bytes) -> None:
    assert len(await asked(monkeypatch, down, UP)) == 2


async def test_a_server_that_listens_late_is_found(monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> None:
    monkeypatch.setattr(readiness, "_PAUSE_S", 0.001)
    asking = asyncio.create_task(answered(f"http://127.0.0.1:{unused_tcp_port}/"))
    await asyncio.sleep(0.01)
    assert not asking.done()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(UP)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", unused_tcp_port):
        await asyncio.wait_for(asking, 1)
