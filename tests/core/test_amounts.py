"""Amounts are read and written to the wei."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citrate.core import amounts
from citrate.core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "wei"),
    [
        ("0", 0),
        ("0ether", 0),
        ("1wei", 1),
        ("5gwei", 5 * 10**9),
        (" 0.01 ETHER ", 10**16),
        ("1eth", 10**18),
        ("1e-3ether", 10**15),
        ("123456789012.123456789012345678ether", 123456789012123456789012345678),
    ],
)
def test_amounts_are_read_exactly(text: str, wei: int) -> None:
    assert amounts.parse(text) == wei


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "ether",
        "-1wei",
        "0.5wei",
        "nanether",
        "infether",
        "1e999999999ether",
        "1e30ether",
        "1_x gwei",
        "1_0wei",
        "\u0661ether",
        "\uff11wei",
        "9" * 200,
    ],
)
def test_what_is_no_amount_exits_2_and_shows_how_to_write_one(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        amounts.parse(text, "bond")
    assert "bond" in caught.value.message
    assert "0.01ether" in caught.value.hint


@given(st.integers(0, 2**128 - 1))
def test_what_is_shown_is_what_is_read(wei: int) -> None:
    assert amounts.parse(amounts.ether(wei)) == amounts.parse(amounts.typed(wei)) == wei
