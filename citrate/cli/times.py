"""Times as people read them."""

from __future__ import annotations

import datetime
import re

from citrate.core.errors import ConfigError

_PARTS = (("d", 86_400), ("h", 3_600), ("min", 60))
_UNITS_S = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}


def utc(seconds: int) -> str:
    """Unix seconds as a date: 2026-11-21 15:26 UTC."""
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M UTC}"


def span(seconds: int) -> str:
    """A duration, rounded down to its two largest parts: 6 d 23 h."""
    told = []
    for unit, size in _PARTS:
        count, seconds = divmod(seconds, size)
        if count:
            told.append(f"{count} {unit}")
    return " ".join(told[:2]) or "less than a minute"


def parse_span(text: str) -> float:
    """Read a duration in seconds: 30d, 12h, 2w.

    Raises:
        ConfigError: it is none.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|m|h|d|w|y)\s*", text)
    if match is None:
        raise ConfigError(f"{text!r} is no duration", hint="write it as 30d, 12h or 2w")
    return float(match[1]) * _UNITS_S[match[2]]


def ago(seconds_s: float) -> str:
    """How long ago that was, in its largest part: 3 d ago."""
    told = span(max(0, int(seconds_s)))
    return "just now" if told.startswith("less") else f"{' '.join(told.split()[:2])} ago"
