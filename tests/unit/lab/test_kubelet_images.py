"""Images on a node: names, limits of what a node lists, sizes, and the time they take."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.lab.images import LISTED_IMAGES, LISTED_NAMES, ImageStore, Link, image_bytes, parse_image

DIGEST = "sha256:" + "a" * 64


class _Impatient(selectors.SelectSelector):
    """Instead of waiting for a timer, it counts the wait."""

    waited = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing will ever happen"
        self.waited += max(0.0, timeout)
        return super().select(0)


class _VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock starts at 0 and stands still unless all wait: no machine is too slow for it."""

    def __init__(self) -> None:
        self._impatient = _Impatient()
        super().__init__(self._impatient)

    def time(self) -> float:
        return self._impatient.waited


def in_virtual_time(work: Coroutine[None, None, None]) -> None:
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        runner.run(work)


@pytest.mark.parametrize(
    ("reference", "repository", "tag"),
    [
        ("python", "docker.io/library/python", "latest"),
        ("python:3.11", "docker.io/library/python", "3.11"),
        ("jupyter/minimal", "docker.io/jupyter/minimal", "latest"),
        ("quay.io/jupyter/minimal:x", "quay.io/jupyter/minimal", "x"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b", "c"),
        (f"quay.io/a/b@{DIGEST}", "quay.io/a/b", None),
        (f"quay.io/a/b:c@{DIGEST}", "quay.io/a/b", "c"),
    ],
)
def test_names_are_normalised(reference: str, repository: str, tag: str | None) -> None:
    found = parse_image(reference)
    assert (found.repository, found.tag) == (repository, tag)
    assert found.names[0] == f"{repository}@{found.digest}"


@given(st.text(min_size=1))
def test_any_text_is_some_image(reference: str) -> None:
    assert parse_image(reference).names


def test_sizes_are_found_by_any_spelling() -> None:
    sizes = {"docker.io/library/python:3.11": 5, "quay.io/a/b:c": 7}
    assert image_bytes("python:3.11", sizes, 1) == 5
    assert image_bytes("quay.io/a/b:c", sizes, 1) == 7
    assert image_bytes("quay.io/a/b:d", sizes, 1) == 1


def test_a_node_lists_the_fifty_largest_with_five_names_digest_first() -> None:
    store = ImageStore()
    for number in range(LISTED_IMAGES + 10):
        store.add(f"quay.io/a/b{number}:x", 1000 + number, now=0)
    for tag in "pqrstuv":
        store.add(f"quay.io/big/image:{tag}@{DIGEST}", 10**9, now=0)
    listed = store.listed()
    assert len(listed) == LISTED_IMAGES
    names = listed[0]["names"]
    assert isinstance(names, list)
    assert names[0] == f"quay.io/big/image@{DIGEST}"
    assert len(names) == LISTED_NAMES
    assert [item["sizeBytes"] for item in listed[1:3]] == [1059, 1058]


def test_what_was_unused_for_longest_goes_first_and_what_is_kept_stays() -> None:
    store = ImageStore()
    for number, name in enumerate(("old:1", "kept:1", "new:1")):
        store.add(name, 100, now=number)
    assert store.has("old:1", now=9)
    assert store.collect(50, keep=["kept:1"]) == 100
    assert store.has("old:1", now=10)
    assert not store.has("new:1", now=10)
    assert store.collect(1000, keep=["kept:1"]) == 100
    assert store.bytes == 100


def test_transfers_share_the_link() -> None:
    ends: dict[str, float] = {}

    async def transfer(link: Link, name: str, size: int) -> None:
        await link.transfer(size)
        ends[name] = asyncio.get_running_loop().time()

    async def both() -> None:
        link = Link(10)
        await asyncio.gather(transfer(link, "short", 100), transfer(link, "long", 200))

    # 100 bytes each at half the rate, then the longer one alone.
    in_virtual_time(both())
    assert ends == {"short": pytest.approx(20, abs=0.1), "long": pytest.approx(30, abs=0.1)}


def test_a_transfer_that_is_given_up_leaves_its_share() -> None:
    async def one_of_two() -> None:
        link = Link(10)
        given_up = asyncio.create_task(link.transfer(10**9))
        await asyncio.sleep(0)
        given_up.cancel()
        await link.transfer(100)
        assert asyncio.get_running_loop().time() == pytest.approx(10, abs=0.1)

    in_virtual_time(one_of_two())
