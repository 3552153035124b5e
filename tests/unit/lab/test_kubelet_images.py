"""Images on a node: names, limits of what a node lists, sizes, and the time they take."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.lab.images import LISTED_IMAGES, LISTED_NAMES, ImageStore, Link, image_bytes, parse_image

DIGEST = "sha256:" + "a" * 64


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


async def test_transfers_share_the_link() -> None:
    loop = asyncio.get_running_loop()
    link = Link(10_000)
    started = loop.time()
    ends: dict[str, float] = {}

    async def transfer(name: str, size: int) -> None:
        await link.transfer(size)
        ends[name] = loop.time() - started

    # 100 bytes each at half the rate, then the longer one alone: 20 ms and 30 ms.
    await asyncio.gather(transfer("short", 100), transfer("long", 200))
    assert ends["short"] == pytest.approx(0.02, abs=0.01)
    assert ends["long"] == pytest.approx(0.03, abs=0.01)


async def test_a_transfer_that_is_given_up_leaves_its_share() -> None:
    loop = asyncio.get_running_loop()
    link = Link(10_000)
    given_up = asyncio.create_task(link.transfer(10**9))
    await asyncio.sleep(0)
    given_up.cancel()
    started = loop.time()
    await link.transfer(100)
    assert loop.time() - started == pytest.approx(0.01, abs=0.008)
