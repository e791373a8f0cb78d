"""Sizes as people write them."""

from __future__ import annotations

import re

from citrate.core.errors import ConfigError

_SIZE = re.compile(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*(?:([kmgt])(i?))?b?\s*", re.IGNORECASE | re.ASCII)


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
