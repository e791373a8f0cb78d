"""Parsing of what several commands take: variants, prices, check levels, sizes."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from citrate.core.errors import ConfigError
from citrate.core.records import Task, Variant

_UNITS = {"wei": 0, "gwei": 9, "ether": 18, "eth": 18}
ALLOWED = ("deprecated", "quarantined")


def variants(text: str | None) -> tuple[Variant, ...] | None:
    """Parse ``safetensors,gguf:Q4_K_M``; None stays None.

    Raises:
        ConfigError: an empty list or an unknown format.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise ConfigError("--variants is empty", hint="for example --variants safetensors,gguf:Q4_K_M")
    return tuple(map(Variant.parse, parts))


def price_wei(text: str) -> int:
    """Parse ``0``, ``0.01ether``, ``5gwei``, ``1000wei``.

    Raises:
        ConfigError: no such unit, a negative amount, or a fraction of a wei.
    """
    text = text.strip().lower()
    if text == "0":
        return 0
    unit = next((unit for unit in sorted(_UNITS, key=len, reverse=True) if text.endswith(unit)), None)
    hint = "write it as 0.01ether, 5gwei or 1000wei"
    if unit is None:
        raise ConfigError(f"price {text!r} has no unit", hint=hint)
    try:
        amount = Decimal(text.removesuffix(unit).strip()).scaleb(_UNITS[unit])
    except InvalidOperation:
        raise ConfigError(f"price {text!r} is not an amount", hint=hint) from None
    if not amount.is_finite() or amount < 0 or amount != amount.to_integral_value():
        raise ConfigError(f"price {text!r} is not a whole, positive number of wei", hint=hint)
    return int(amount)


def check_level(text: str | None) -> str | None:
    """``full`` or ``tensors``.

    Raises:
        ConfigError: anything else.
    """
    if text not in (None, "full", "tensors"):
        raise ConfigError(f"--checks {text!r} is not known", hint="--checks full or --checks tensors")
    return text


def allowed(text: str | None) -> frozenset[str]:
    """Parse ``--allow deprecated,quarantined``.

    Raises:
        ConfigError: another word.
    """
    words = frozenset(word.strip() for word in (text or "").split(",") if word.strip())
    for word in words:
        if word not in ALLOWED:
            raise ConfigError(f"--allow {word!r} is not known", hint=f"--allow {','.join(ALLOWED)}")
    return words


def task(text: str) -> Task:
    """``inference`` or ``training``.

    Raises:
        ConfigError: anything else.
    """
    if text not in list(Task):
        raise ConfigError(f"--task {text!r} is not known", hint=f"--task {' or '.join(Task)}")
    return Task(text)
