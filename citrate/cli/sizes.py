"""Sizes, counts and costs as people read them."""

from __future__ import annotations

from citrate.core.bytesizes import counted, human_size

__all__ = ["counted", "human_cost", "human_size"]


def human_cost(gas_used: int | None, fee_wei: int | None) -> str:
    """What a transaction used, or would use; None where no chain was asked."""
    if gas_used is None or fee_wei is None:
        return "an unknown fee"
    return f"{gas_used:,} gas, {fee_wei / 1e18:.6f} ether"
