"""Sizes and costs as people read them."""

from __future__ import annotations

import re

from citrate.core.errors import ConfigError


def human_size(size_bytes: int) -> str:
    """Decimal units, as `hf` and `ls --si` print them: 4.2 MB."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size_bytes} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


def parse_size(text: str) -> int:
    """Read a size as people write it: 50GB, 1.5 TB, 200MiB, or bytes.

    Raises:
        ConfigError: it is none.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?))?b?\s*", text, re.IGNORECASE)
    if match is None:
        raise ConfigError(f"{text!r} is no size", hint="write it as 50GB, 1.5TB or 200MiB")
    number, unit, binary = match.groups()
    power = "kmgt".index(unit.lower()) + 1 if unit else 0
    return int(float(number) * (1024 if binary else 1000) ** power)


def human_cost(gas_used: int | None, fee_wei: int | None) -> str:
    """What a transaction used, or would use; None where no chain was asked."""
    if gas_used is None or fee_wei is None:
        return "an unknown fee"
    return f"{gas_used:,} gas, {fee_wei / 1e18:.6f} ether"
