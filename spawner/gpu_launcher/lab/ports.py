"""Loopback addresses and ports that belong to one lab at a time, machine-wide."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from gpu_launcher.lab.paths import LabError

# Below the range that Linux hands to outgoing connections (32768 and up), so that none takes a port by chance.
_FIRST_PORT = 20000
_PORTS_PER_BLOCK = 32
_BLOCKS = range(1, 255)


@dataclass(slots=True)
class Block:
    """The number of a lab's share of loopback: pod addresses 127.<number>.x.y and 32 ports on 127.0.0.1.

    The kernel frees it when the holder ends, however it ends: the lock is a socket, not a file.
    """

    number: int
    lock: socket.socket

    @property
    def ports(self) -> range:
        """The TCP ports of this block."""
        return ports_of(self.number)

    def free_ports(self) -> Iterator[int]:
        """The ports of this block that nobody listens on right now."""
        return (port for port in self.ports if is_free(port))

    def release(self) -> None:
        """Let another lab have the block."""
        self.lock.close()


def ports_of(number: int) -> range:
    """The TCP ports that belong to whoever holds the block ``number``."""
    first = _FIRST_PORT + number * _PORTS_PER_BLOCK
    return range(first, first + _PORTS_PER_BLOCK)


def claim_block() -> Block:
    """A block that no other lab on this machine holds. Raises ``LabError`` when all are taken."""
    for number in _BLOCKS:
        block = try_claim(number)
        if block is None:
            continue
        if sum(1 for _ in block.free_ports()) >= _PORTS_PER_BLOCK // 2:
            return block
        block.release()
    raise LabError("no free loopback block: stop a lab first; `gpu-launcher lab list` shows yours")


def try_claim(number: int) -> Block | None:
    """The block ``number``, None when a lab holds it."""
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # An abstract name (leading zero byte) has the scope of the network, like the ports it stands for.
        lock.bind(f"\0gpu-launcher-lab/{number}")
    except OSError as error:
        lock.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return Block(number, lock)


def is_free(port: int, address: str = "127.0.0.1") -> bool:
    """Whether a server could listen on ``port`` right now, on every address too (some servers insist on that)."""
    for host in ("", address):
        with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
            # What servers set themselves: a connection that lingers in TIME_WAIT does not block a port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True
