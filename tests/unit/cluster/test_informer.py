"""What callbacks of an informer hear where lists and watches alone do not say it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from gpu_launcher.cluster.api import KubeApi, Raw
from gpu_launcher.cluster.informer import Informer


def pod(name: str, uid: str, version: int) -> Raw:
    return {"metadata": {"namespace": "n", "name": name, "uid": uid, "resourceVersion": str(version)}}


class LaggingApi:
    """Gives one list after the other; between two lists it says nothing, as a watch that broke."""

    def __init__(self, lists: Sequence[list[Raw]]) -> None:
        self._lists = iter(lists)

    async def get(self, path: str, **query: Any) -> Raw:
        return {"metadata": {"resourceVersion": "9"}, "items": next(self._lists)}

    async def watch(self, path: str, **query: Any) -> AsyncIterator[tuple[str, Raw]]:
        await asyncio.Event().wait()
        yield "BOOKMARK", {}


async def heard(*lists: list[Raw]) -> list[tuple[str, str]]:
    """Kind and uid of every callback, in order."""
    informer = Informer(cast(KubeApi, LaggingApi(lists)), "/pods")
    told: list[tuple[str, str]] = []
    informer.subscribe(lambda kind, item: told.append((kind, item["metadata"]["uid"])))
    for _ in lists:
        await informer._list()
    return told


async def test_a_second_list_tells_only_what_changed() -> None:
    first = [pod("same", "s", 1), pod("changed", "c", 2), pod("gone", "g", 3)]
    second = [pod("same", "s", 1), pod("changed", "c", 4), pod("new", "n", 5)]
    told = await heard(first, second)
    assert told[3:] == [("DELETED", "g"), ("MODIFIED", "c"), ("ADDED", "n")]


async def test_an_object_replaced_between_two_lists_is_deleted_then_added() -> None:
    told = await heard([pod("a", "old", 1)], [pod("a", "new", 7)])
    assert told == [("ADDED", "old"), ("DELETED", "old"), ("ADDED", "new")]


async def test_a_callback_that_raises_is_logged_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    informer = Informer(cast(KubeApi, LaggingApi([[pod("a", "u", 1), pod("b", "v", 2)]])), "/pods")
    told: list[str] = []

    async def broken(kind: str, item: Raw) -> None:
        raise KeyError("spec")

    informer.subscribe(broken)
    informer.subscribe(lambda kind, item: told.append(item["metadata"]["name"]))
    with caplog.at_level(logging.ERROR):
        async with informer:
            await informer.synced.wait()
    assert told == ["a", "b"]
    assert [record.exc_info is not None for record in caplog.records] == [True, True]
