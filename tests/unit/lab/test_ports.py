"""Ports and loopback blocks belong to one lab at a time."""

from __future__ import annotations

import socket

from gpu_launcher.lab.controlplane import assign_ports
from gpu_launcher.lab.ports import claim_block, is_free, try_claim


def test_two_labs_get_two_blocks_and_a_released_one_is_free_again() -> None:
    one, two = claim_block(), claim_block()
    try:
        assert one.number != two.number
        assert not set(one.ports) & set(two.ports)
        assert try_claim(one.number) is None
    finally:
        one.release()
        two.release()
    again = try_claim(two.number)
    assert again is not None
    again.release()


def test_ports_that_somebody_listens_on_are_passed_over() -> None:
    block = claim_block()
    first = next(block.free_ports())
    with socket.create_server(("127.0.0.1", first)):
        assert not is_free(first)
        ports = assign_ports(block.free_ports())
        assert first not in ports.values()
        assert len(set(ports.values())) == len(ports) == 8
    assert is_free(first)
    block.release()


def test_no_port_is_one_that_linux_hands_out() -> None:
    block = claim_block()
    assert block.ports.stop <= 32768
    block.release()
