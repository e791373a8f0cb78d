"""Sizes and counts as people write and read them."""

from __future__ import annotations

import re

from citrate.core.errors import ConfigError

_SIZE = re.compile(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*(?:([kmgt])(i?))?b?\s*", re.IGNORECASE | re.ASCII)


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


def parse_bytes(text: str) -> int:
    """Read ``50GB``, ``1.5 TB``, ``200MiB``, or a number of bytes.

    Raises:
        ConfigError: it is no size.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text[:80]!r} is no size", hint="write it as 50GB, 1.5TB or 200MiB")
    number, unit, binary = match.groups()
    power = "kmgt".index(unit.lower()) + 1 if unit else 0
    return int(float(number) * (1024 if binary else 1000) ** power)
