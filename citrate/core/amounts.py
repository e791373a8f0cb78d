"""Amounts of the chain's money, read and written exactly: what a person agrees to is what is sent."""

from __future__ import annotations

from citrate.core.errors import ConfigError

_UNITS = {"wei": 0, "gwei": 9, "ether": 18, "eth": 18}
_HINT = "write it as 0.01ether, 5gwei or 1000wei"
_MAX_WEI = (1 << 128) - 1
"""More than all of any chain's money; keeps sums of amounts inside a word."""
_LONGEST_TEXT = 100
"""No text up to here is rounded by a precision of 120 digits."""


def parse(text: str, what: str = "price") -> int:
    """Parse ``0``, ``0.01ether``, ``5gwei``, ``1000wei`` into wei.

    Args:
        text: as a person types it.
        what: what the amount is, for the message.

    Raises:
        ConfigError: no such unit, a negative amount, a fraction of a wei, or more than there is.
    """
    from decimal import Context, Decimal, DecimalException  # not at the top: writing an amount needs none of it

    text = text.strip().lower()
    if text == "0":
        return 0
    unit = next((unit for unit in sorted(_UNITS, key=len, reverse=True) if text.endswith(unit)), None)
    if unit is None:
        raise ConfigError(f"{what} {text!r} has no unit", hint=_HINT)
    if not text.isascii() or "_" in text:  # Decimal reads every script's digits, and groups of them
        raise ConfigError(f"{what} {text[:80]!r} is not an amount", hint=_HINT)
    if len(text) > _LONGEST_TEXT:
        raise ConfigError(f"{what} {text[:20]!r}... is too long", hint=_HINT)
    try:
        amount = Decimal(text.removesuffix(unit).strip()).scaleb(_UNITS[unit], Context(prec=120))
    except DecimalException:
        raise ConfigError(f"{what} {text!r} is not an amount", hint=_HINT) from None
    if not amount.is_finite() or amount < 0 or amount != amount.to_integral_value():
        raise ConfigError(f"{what} {text!r} is not a whole, positive number of wei", hint=_HINT)
    if amount > _MAX_WEI:
        raise ConfigError(f"{what} {text!r} is more than there is", hint=_HINT)
    return int(amount)


def ether(wei: int) -> str:
    """Wei in ether, every digit of it: ``0.01 ether``."""
    whole, rest = divmod(wei, 10**18)
    digits = f"{rest:018d}".rstrip("0")
    return f"{whole}.{digits} ether" if digits else f"{whole} ether"


def typed(wei: int) -> str:
    """Wei as ``parse`` reads it and a shell takes it without quotes: ``0.01ether``."""
    return ether(wei).replace(" ", "")
