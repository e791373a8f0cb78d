"""The tokenizer of a model directory: the truth that every conversion's tokenizer is compared with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol, cast

from citrate.core.canonical import Json
from citrate.core.errors import BackendMissingError, FormatError
from citrate.formats.checks.texts import HOSTILE
from citrate.formats.documents import TOKENIZER_MAX_BYTES, inside, read_bounded
from citrate.formats.tokenizer_files import tokenizer_document


class _Encoding(Protocol):
    ids: list[int]


class _Tokenizer(Protocol):
    def encode(self, text: str, *, add_special_tokens: bool) -> _Encoding: ...


def has_tokenizer(root: Path) -> bool:
    """Whether the directory has a tokenizer that can be compared."""
    return (root / "tokenizer.json").exists()


def tokenize(root: Path, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
    """Token ids of ``texts``; with ``special``, what the tokenizer puts around a text too.

    Raises:
        FormatError: tokenizer.json is malformed.
        BackendMissingError: the package tokenizers is not installed.
    """
    tokenizer = _load(root, inside(root, "tokenizer.json").stat().st_mtime_ns)
    return [tokenizer.encode(text, add_special_tokens=special).ids for text in texts]


def tokenize_as(document: Mapping[str, Json], texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
    """Token ids of ``texts`` by another tokenizer.json; raises as ``tokenize`` does."""
    tokenizer = _parsed(json.dumps(document))
    return [tokenizer.encode(text, add_special_tokens=special).ids for text in texts]


@lru_cache(maxsize=4)
def _load(root: Path, _changed_ns: int) -> _Tokenizer:
    return _parsed(read_bounded(inside(root, "tokenizer.json"), TOKENIZER_MAX_BYTES).decode(errors="replace"))


def _parsed(text: str) -> _Tokenizer:
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise BackendMissingError("comparing tokens needs tokenizers", hint="pip install 'citrate[gguf]'") from error
    try:
        return cast(_Tokenizer, Tokenizer.from_str(text))
    except Exception as error:
        raise FormatError(f"tokenizer.json cannot be loaded: {error!s:.200}") from error


def corpus(root: Path) -> tuple[str, ...]:
    """The strings that both tokenizers get: hostile ones, and each of the first added tokens within a sentence."""
    document = tokenizer_document(root) or {}
    added = document.get("added_tokens")
    contents = [
        entry["content"]
        for entry in (added if isinstance(added, list) else [])[:64]
        if isinstance(entry, dict) and isinstance(entry.get("content"), str)
    ]
    return HOSTILE + tuple(f"before {content} after" for content in contents)
