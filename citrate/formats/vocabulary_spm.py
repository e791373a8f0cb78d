"""SentencePiece-style BPE with byte fallback (Llama 2) for GGUF: scores instead of merges, and the space in front.

llama.cpp joins the two neighbours whose joint piece scores best; a merge's rank is that score with its sign turned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from citrate.core.canonical import Json
from citrate.core.errors import UnsupportedConversionError

BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_SPACE = "\u2581"  # how SentencePiece writes a space


def scores_of(tokens: Sequence[str], merges: Sequence[str]) -> tuple[float, ...]:
    """A score for every token: minus the rank of the first merge that yields it; 0 where none does."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges, start=1):
        ranks.setdefault(merge.replace(" ", "", 1), rank)
    return tuple(-float(ranks.get(token, 0)) for token in tokens)


def space_in_front(document: Mapping[str, Json]) -> bool:
    """Whether the tokenizer puts a space before a text.

    Raises:
        UnsupportedConversionError: it treats spaces in a way that llama.cpp does not.
    """
    normalizer, cutter = document.get("normalizer"), document.get("pre_tokenizer")
    if isinstance(cutter, dict) and cutter.get("type") == "Metaspace":
        # The other schemes leave out the space where a text has one already; llama.cpp never does.
        never = cutter.get("prepend_scheme") == "never" and not cutter.get("split", True)
        if cutter.get("replacement") == _SPACE and never and normalizer is None:
            return False
    elif cutter is None and isinstance(normalizer, dict) and normalizer.get("type") == "Sequence":
        steps = normalizer.get("normalizers")
        replace = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
        prepend = {"type": "Prepend", "prepend": _SPACE}
        if steps in ([prepend, replace], [replace]):
            return steps != [replace]
    raise UnsupportedConversionError("its tokenizer treats spaces in a way that llama.cpp does not")


def readable_spaces(token: str) -> str:
    """A user-defined token as llama.cpp wants it, with ordinary spaces."""
    return token.replace(_SPACE, " ")
