"""The tokenizer of a model directory: the truth that every conversion's tokenizer is compared with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, cast

from citrate.core.canonical import Json
from citrate.core.errors import BackendMissingError, FormatError
from citrate.formats.documents import TOKENIZER_MAX_BYTES, inside, read_bounded


class _Encoding(Protocol):
    ids: list[int]


class _Tokenizer(Protocol):
    def encode(self, text: str, *, add_special_tokens: bool) -> _Encoding: ...

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str: ...


@dataclass(frozen=True)
class Tokenized:
    """What a tokenizer makes of some texts, one entry a text."""

    plain: list[list[int]]
    """Token ids of the text alone."""
    special: list[list[int]]
    """With what the tokenizer puts around a text."""
    decoded: list[str]
    """The text that ``plain`` reads as again, special tokens spelled out."""


def has_tokenizer(root: Path) -> bool:
    """Whether the directory has a tokenizer that can be compared."""
    return (root / "tokenizer.json").exists()


def tokenize(root: Path, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
    """Token ids of ``texts``; with ``special``, what the tokenizer puts around a text too.

    Raises:
        FormatError: tokenizer.json is malformed.
        BackendMissingError: the package tokenizers is not installed.
    """
    return _ids(_of(root), texts, special)


def tokenized(root: Path, texts: Sequence[str]) -> Tokenized:
    """All that the tokenizer of a model directory makes of ``texts``; raises as ``tokenize`` does."""
    return _tokenized(_of(root), texts)


def tokenized_as(document: Mapping[str, Json], texts: Sequence[str]) -> Tokenized:
    """As ``tokenized``, by another tokenizer.json."""
    return _tokenized(_parsed(json.dumps(document)), texts)


def _of(root: Path) -> _Tokenizer:
    return _load(root, inside(root, "tokenizer.json").stat().st_mtime_ns)


def _tokenized(tokenizer: _Tokenizer, texts: Sequence[str]) -> Tokenized:
    plain = _ids(tokenizer, texts, special=False)
    decoded = [tokenizer.decode(ids, skip_special_tokens=False) for ids in plain]
    return Tokenized(plain, _ids(tokenizer, texts, special=True), decoded)


def _ids(tokenizer: _Tokenizer, texts: Sequence[str], special: bool) -> list[list[int]]:
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
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:
        raise FormatError(f"tokenizer.json cannot be loaded: {error!s:.200}") from error
    tokenizer.no_truncation()  # settings of the run it was saved in, not of the tokenizer
    tokenizer.no_padding()
    return cast(_Tokenizer, tokenizer)
