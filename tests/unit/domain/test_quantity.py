"""Quantities: a small strict grammar, exact integers, canonical text (row C2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.domain.quantity import (
    QuantityError,
    format_bytes,
    format_cpu,
    parse_bytes,
    parse_cpu,
)

PARSERS: tuple[Callable[[object], int], ...] = (parse_cpu, parse_bytes)

WRONG: tuple[Any, ...] = (
    *(
        "NaN",
        "Infinity",
        "-1",
        "+1",
        "1e400",
        "1E3",
        "\uff11Gi",
        "1_000Mi",
        "",
        " 1",
        "1 ",
        "1\n",
        "0x10",
        "1Gi1",
        "Gi",
        ".5",
        "1.",
    ),
    *("1kI", "1gi", "1mi", "--1", "²", "1" * 40, "9" * 30, "1Bi", "٣"),
    *(True, False, None, 0.1, float("nan"), float("inf"), -1, 2**63, 10**5000, b"1", [], {}, object()),
)


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("text", WRONG, ids=lambda text: repr(text)[:20] if not isinstance(text, int) else "int")
def test_c2_what_is_no_quantity_is_refused_with_a_remedy(parse: Callable[[object], int], text: Any) -> None:
    with pytest.raises(QuantityError, match=r"; write ") as refused:
        parse(text)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize(
    ("text", "millicores"), [("3920m", 3920), ("4", 4000), (4, 4000), ("4.0", 4000), ("0.1", 100), ("0", 0), (0, 0)]
)
def test_cpu(text: object, millicores: int) -> None:
    assert parse_cpu(text) == millicores


@pytest.mark.parametrize("text", ["0.0001", "1.5m", "1Mi", "1k"])
def test_c2_cpu_finer_than_a_millicore_or_in_bytes_is_refused(text: str) -> None:
    with pytest.raises(QuantityError):
        parse_cpu(text)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("13868Mi", 13868 * 1024**2),
        ("16Gi", 16 * 1024**3),
        ("1.5Gi", 1536 * 1024**2),
        ("14G", 14 * 10**9),
        ("1k", 1000),
        ("1024", 1024),
        (1024, 1024),
        ("0", 0),
    ],
)
def test_bytes(text: object, amount: int) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize("text", ["0.1", "100m", "1.0001Ki"])
def test_c2_fractions_of_a_byte_are_refused(text: str) -> None:
    with pytest.raises(QuantityError):
        parse_bytes(text)


@given(st.integers(0, 2**63 // 1000 - 1))
def test_c2_canonical_cpu_round_trips(millicores: int) -> None:
    assert parse_cpu(format_cpu(millicores)) == millicores


@given(st.integers(0, 2**62) | st.integers(0, 2**20).map(lambda n: n * 1024**2))
def test_c2_canonical_bytes_round_trip(amount: int) -> None:
    text = format_bytes(amount)
    assert parse_bytes(text) == amount
    assert format_bytes(parse_bytes(text)) == text


@given(st.sampled_from(PARSERS), st.text(max_size=12) | st.text("0123456789.eEinumkKMGTP+-_ ", max_size=12))
def test_c2_any_text_is_a_quantity_or_a_quantity_error(parse: Callable[[object], int], text: str) -> None:
    try:
        value = parse(text)
    except QuantityError:
        return
    assert isinstance(value, int)
    assert 0 <= value < 2**63
    assert text.isascii()
