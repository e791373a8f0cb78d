"""The strings that a variant's tokenizer must cut as its source does: committed lines of every kind that tokenizers are
known to disagree on, and what the model's own added tokens give.

``corpus.jsonl`` holds a line ``["kind", "text"]`` each; what does not show, or would not survive an editor (spaces,
controls, marks, decomposed letters), is escaped. Part of the manifest's meaning: changing it changes what a check says.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from citrate.formats.tokenizer_files import tokenizer_document

_ADDED_MAX = 64
_TURNS_MAX = 8
_LONGEST = 1 << 12
"""Characters of an added token: past it one is no word, and would be spelled ten times in memory."""
_AROUND = ("{}", " {} ", "before {} after", "before{}after", "{0}{0}", "\n{}\n", "  {}  x", "{}\t", "é{}中")


@dataclass(frozen=True)
class Line:
    """One string, and what it stands for."""

    kind: str
    """A script, or what is special about it; ``added token`` and ``chat turns`` come from the model itself."""
    text: str


@cache
def committed() -> tuple[Line, ...]:
    """The lines that every tokenizer gets."""
    data = resources.files(__package__).joinpath("corpus.jsonl").read_text(encoding="utf-8")
    return tuple(Line(*json.loads(line)) for line in data.split("\n") if line)


def lines_for(root: Path) -> tuple[Line, ...]:
    """The committed lines, and those made of the first added tokens of the model directory ``root``."""
    return committed() + tuple(_added_lines(root))


def _added_lines(root: Path) -> Iterator[Line]:
    """Each added token with text, spaces and itself beside it; neighbours as the ends of chat turns."""
    contents = [content for content in added_contents(root) if len(content) <= _LONGEST][:_ADDED_MAX]
    for content in contents:
        yield from (Line("added token", around.format(content)) for around in _AROUND)
    for opening, closing in itertools.pairwise(contents[: _TURNS_MAX + 1]):
        turn = f"{opening}user\nHow far is it?{closing}\n"
        yield Line("chat turns", f"{turn}{opening}assistant\n  About 12 km.{closing}{opening}")


def added_contents(root: Path) -> list[str]:
    """The spellings of the added tokens of a model directory's tokenizer."""
    added = (tokenizer_document(root) or {}).get("added_tokens")
    entries = [entry for entry in (added if isinstance(added, list) else []) if isinstance(entry, dict)]
    contents = (entry.get("content") for entry in entries)
    return [content for content in contents if isinstance(content, str)]
