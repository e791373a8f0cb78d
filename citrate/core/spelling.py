"""What a misspelt name was meant to be, for hints."""

from __future__ import annotations

import re
from collections.abc import Iterable

_ALIKE = 0.8
"""How alike two names are at least, as ``difflib`` reckons: in ten letters two may be others."""
_LETTERS = re.compile(r"[^\W_]")
_LONGEST = 100


def meant(text: str, known: Iterable[str]) -> str:
    """The name among ``known`` that ``text`` most likely stands for; empty where none is near enough.

    Case does not count, nor does what is no letter and no digit: ``q4-k-m`` is ``Q4_K_M``. Digits count: ``Q4_0`` is
    no misspelt ``Q8_0``.
    """
    from difflib import SequenceMatcher  # not at the top: only who mistypes pays for it

    bare = _bare(text[:_LONGEST])
    names = {name: _bare(name) for name in known}
    ratios = {
        name: SequenceMatcher(None, bare, other).ratio()
        for name, other in names.items()
        if _digits(other) == _digits(bare)
    }
    nearest = max(ratios, key=ratios.__getitem__, default="")
    return nearest if ratios.get(nearest, 0.0) >= _ALIKE else ""


def _bare(text: str) -> str:
    return "".join(_LETTERS.findall(text)).casefold()


def _digits(text: str) -> str:
    return "".join(filter(str.isdecimal, text))
