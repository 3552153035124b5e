"""What callbacks of an informer hear where lists and watches alone do not say it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from gpu_launcher.cluster.api import KubeApi, Raw
from gpu_launcher.cluster.informer import Informer, identity
from gpu_launcher.cluster.parse import pod_view
from gpu_launcher.cluster.viewed import Viewed


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
    assert told[3:] == [("MODIFIED", "c"), ("ADDED", "n"), ("DELETED", "g")]


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


async def test_what_is_kept_is_enough_to_tell_changes_apart() -> None:
    lists = [[pod("a", "1", 1), pod("b", "2", 1)], [pod("a", "1", 2) | {"spec": {}}, pod("b", "3", 5)], []]
    informer = Informer(cast(KubeApi, LaggingApi(lists)), "/pods")
    informer.kept = identity
    told: list[tuple[str, str, bool]] = []
    informer.subscribe(lambda kind, item: told.append((kind, item["metadata"]["uid"], "spec" in item)))
    for _ in lists:
        await informer._list()
    assert told == [
        ("ADDED", "1", False),
        ("ADDED", "2", False),
        ("MODIFIED", "1", True),
        ("DELETED", "2", False),
        ("ADDED", "3", False),
        ("DELETED", "1", False),
        ("DELETED", "3", False),
    ]


async def test_a_view_outlives_what_the_informer_forgot_of_it() -> None:
    told: list[tuple[str, str]] = []
    lists = [[pod("a", "1", 1) | {"status": {"phase": "Running"}}], []]
    viewed = Viewed(
        cast(KubeApi, LaggingApi(lists)), "/pods", pod_view, lambda kind, view: told.append((kind, view.phase))
    )
    viewed.informer.kept = identity
    assert viewed.all() is None
    await viewed.informer._list()
    (known,) = viewed.all() or ()
    assert viewed.all() is viewed.all()
    assert viewed.get("n", "a") is known
    await viewed.informer._list()
    assert viewed.all() == ()
    assert told == [("ADDED", "Running"), ("DELETED", "Running")]
