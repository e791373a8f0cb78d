"""Times as people read them."""

from __future__ import annotations

import datetime

_PARTS = (("d", 86_400), ("h", 3_600), ("min", 60))


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
