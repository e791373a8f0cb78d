"""What is offered for a gas: enough to be taken, enough more to take another's place, and never above the cap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citrate.core.errors import ChainError
from citrate.registry import fees
from citrate.registry.fees import GWEI, Fees, Market

WEI = st.integers(0, 10**15)


def test_a_first_offer_covers_a_base_fee_that_doubles() -> None:
    assert fees.first(Market(10 * GWEI, GWEI)) == Fees(21 * GWEI, GWEI)
    assert fees.first(Market(10 * GWEI, GWEI), cap_wei=15 * GWEI) == Fees(15 * GWEI, GWEI)
    assert fees.first(Market(10 * GWEI, 30 * GWEI), cap_wei=12 * GWEI) == Fees(12 * GWEI, 12 * GWEI)
    with pytest.raises(ChainError, match=r"costs 10 gwei now, more than max_fee_gwei = 9\.5"):
        fees.first(Market(10 * GWEI, GWEI), cap_wei=9_500_000_000)


@given(base=WEI, tip=WEI, max_fee=WEI, offered_tip=WEI, cap=st.none() | WEI)
def test_a_raised_offer_may_take_the_place_of_the_first(
    base: int, tip: int, max_fee: int, offered_tip: int, cap: int | None
) -> None:
    before = Fees(max_fee, min(max_fee, offered_tip))
    after = fees.raised(before, Market(base, tip), cap or 0)
    if after is None:
        assert cap and before.max_fee_wei * 9 / 8 > cap - 1
        return
    for old, new in ((before.max_fee_wei, after.max_fee_wei), (before.tip_wei, after.tip_wei)):
        assert new * 8 >= old * 9 and new > old
    assert after.tip_wei <= after.max_fee_wei and (not cap or after.max_fee_wei <= cap)


def test_a_raised_offer_follows_the_market() -> None:
    assert fees.raised(Fees(21 * GWEI, GWEI), Market(40 * GWEI, 2 * GWEI)) == Fees(82 * GWEI, 2 * GWEI)
    assert fees.raised(Fees(80, 8), Market(0, 0), cap_wei=89) is None


def test_a_chain_without_a_base_fee_is_told() -> None:
    with pytest.raises(ChainError, match="no base fee"):
        fees.read({"number": "0x1"}, "0x1")
