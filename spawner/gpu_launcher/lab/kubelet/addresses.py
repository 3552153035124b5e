"""Pod addresses: 127.<block>.x.y, a block of loopback addresses per lab; pods keep their ports to themselves."""

from __future__ import annotations

from collections import deque


class Addresses:
    """The free addresses of one block. A freed address comes back last, as late packets for it may still arrive."""

    def __init__(self, block: int) -> None:
        if not 1 <= block <= 255:
            raise ValueError(f"block must lie within 1..255, not {block}")
        self._free = deque(f"127.{block}.{third}.{last}" for third in range(1, 65) for last in range(1, 255))

    def take(self) -> str:
        """A free address; IndexError when 16,256 pods run at once."""
        return self._free.popleft()

    def give_back(self, address: str) -> None:
        self._free.append(address)
