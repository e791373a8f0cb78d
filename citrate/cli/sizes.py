"""Sizes, counts and costs as people read them."""

from __future__ import annotations


def human_size(size_bytes: int) -> str:
    """Decimal units, as `hf` and `ls --si` print them: 4.2 MB."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size_bytes} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


def counted(number: int, noun: str) -> str:
    """``1 object``, ``2 objects``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def human_cost(gas_used: int | None, fee_wei: int | None) -> str:
    """What a transaction used, or would use; None where no chain was asked."""
    if gas_used is None or fee_wei is None:
        return "an unknown fee"
    return f"{gas_used:,} gas, {fee_wei / 1e18:.6f} ether"
