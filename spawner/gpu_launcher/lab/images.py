"""Container images of the lab: a name, a digest, a size and the time to arrive; nothing is downloaded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

# The kubelet's own limits (nodeStatusMaxImages and MaxNamesPerImageInNodeStatus): what does not fit is not listed,
# so an image that is missing while 50 are listed may well be present.
LISTED_IMAGES = 50
LISTED_NAMES = 5


@dataclass(frozen=True, slots=True)
class ImageName:
    """A reference as containerd resolves it: `python` is `docker.io/library/python:latest`."""

    repository: str
    tag: str | None
    digest: str

    @property
    def names(self) -> tuple[str, ...]:
        """What a node lists for this reference, the digest first as the kubelet does."""
        pinned = f"{self.repository}@{self.digest}"
        return (pinned,) if self.tag is None else (pinned, f"{self.repository}:{self.tag}")


def parse_image(reference: str) -> ImageName:
    """The normalised name of a reference; a tag's digest is made up from its name, so it never moves."""
    name, _, digest = reference.partition("@")
    tag: str | None = None
    if ":" in name.rpartition("/")[2]:
        name, _, tag = name.rpartition(":")
    host, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif "." not in host and ":" not in host and host != "localhost":
        name = f"docker.io/{name}"
    if not digest:
        tag = tag or "latest"
        digest = f"sha256:{sha256(f'{name}:{tag}'.encode()).hexdigest()}"
    return ImageName(name, tag, digest)


def image_bytes(reference: str, sizes: Mapping[str, int], default: int) -> int:
    """The size of an image in bytes: that of its reference as written, else of any spelling of it, else `default`."""
    if reference in sizes:
        return sizes[reference]
    wanted = set(parse_image(reference).names)
    for other, size in sizes.items():
        if wanted.intersection(parse_image(other).names):
            return size
    return default


@dataclass(slots=True)
class StoredImage:
    """An image on a node's disk."""

    bytes: int
    names: list[str]
    used_at: float


@dataclass(slots=True)
class ImageStore:
    """The images on one node's disk, by digest."""

    images: dict[str, StoredImage] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(image.bytes for image in self.images.values())

    def has(self, reference: str, now: float) -> bool:
        """True if the image is on the disk; asking for it counts as a use."""
        name = parse_image(reference)
        image = self.images.get(name.digest)
        if image is None:
            return False
        image.used_at = now
        self._add_names(image, name)
        return True

    def add(self, reference: str, size: int, now: float) -> None:
        name = parse_image(reference)
        image = self.images.setdefault(name.digest, StoredImage(size, [], now))
        self._add_names(image, name)

    def collect(self, wanted: int, keep: Iterable[str]) -> int:
        """Bytes freed by removing what was unused for longest, until `wanted` are free; never an image in `keep`."""
        kept = {parse_image(reference).digest for reference in keep}
        freed = 0
        for digest, image in sorted(self.images.items(), key=lambda item: item[1].used_at):
            if freed >= wanted:
                break
            if digest not in kept:
                freed += image.bytes
                del self.images[digest]
        return freed

    def listed(self) -> list[dict[str, object]]:
        """`node.status.images`: the largest first, digests before tags, cut at the kubelet's limits."""
        largest = sorted(self.images.values(), key=lambda image: (-image.bytes, image.names))[:LISTED_IMAGES]
        return [{"names": image.names[:LISTED_NAMES], "sizeBytes": image.bytes} for image in largest]

    @staticmethod
    def _add_names(image: StoredImage, name: ImageName) -> None:
        fresh = [text for text in name.names if text not in image.names]
        if fresh:
            image.names = sorted([*image.names, *fresh], key=lambda text: ("@" not in text, text))


class Link:
    """One node's way to the registry: transfers that run at once share its rate evenly.

    Kept as a virtual clock that counts the bytes every running transfer has received so far, so that an arrival or
    an end costs one timer whatever the number of transfers.
    """

    def __init__(self, bytes_per_s: float) -> None:
        self._rate = bytes_per_s
        self._received = 0.0
        self._since = 0.0
        self._waiting: list[tuple[float, asyncio.Future[None]]] = []
        self._timer: asyncio.TimerHandle | None = None

    async def transfer(self, size: int) -> None:
        """Returns when `size` bytes have arrived."""
        loop = asyncio.get_running_loop()
        self._advance(loop.time())
        done: asyncio.Future[None] = loop.create_future()
        entry = (self._received + size, done)
        self._waiting.append(entry)
        self._schedule(loop)
        try:
            await done
        finally:
            self._advance(loop.time())
            if entry in self._waiting:
                self._waiting.remove(entry)
            self._schedule(loop)

    def _advance(self, now: float) -> None:
        if self._waiting:
            self._received += (now - self._since) * self._rate / len(self._waiting)
        self._since = now

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            left = min(mark for mark, _ in self._waiting) - self._received
            delay = max(0.0, left) * len(self._waiting) / self._rate
            self._timer = loop.call_later(delay, self._finish, loop)

    def _finish(self, loop: asyncio.AbstractEventLoop) -> None:
        self._advance(loop.time())
        # Half a byte of slack: the clock is a float, and a transfer that misses its end by rounding would spin.
        ended = [entry for entry in self._waiting if entry[0] - self._received <= 0.5]
        for entry in ended:
            self._waiting.remove(entry)
            if not entry[1].done():
                entry[1].set_result(None)
        self._schedule(loop)
