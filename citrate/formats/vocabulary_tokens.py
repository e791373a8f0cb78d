"""The tokens of a GGUF file and their kinds, from the vocabulary and the added tokens of a tokenizer.json."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from citrate.core.canonical import Json
from citrate.core.errors import FormatError, UnsupportedConversionError
from citrate.formats.gguf_file import GgufValue

_VOCABULARY_MAX = 1 << 22
_SPACE = "\u2581"  # how SentencePiece writes a space
_LOOKS_SPECIAL = re.compile(r"<\|.*\|>|<｜.*｜>|<unused.*>|<pad>|<mask>|<2mass>|\[@BOS@\]", re.DOTALL)  # noqa: RUF001
"""Added tokens that published models forgot to call special; llama.cpp treats them as such."""


class TokenKind(IntEnum):
    """llama.cpp's kinds of tokens."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class TokenizerSource:
    """The files that a tokenizer is read from."""

    root: Path
    document: Mapping[str, Json]
    """tokenizer.json."""
    settings: Mapping[str, Json]
    """tokenizer_config.json over special_tokens_map.json."""


@dataclass(frozen=True)
class Lexicon:
    """What text is cut into: the tokens of a tokenizer and the rules that choose among them."""

    model: str
    """llama.cpp's name of the algorithm: ``gpt2``, ``llama``, ``t5`` or ``bert``."""
    tokens: tuple[str, ...]
    kinds: tuple[TokenKind, ...]
    pre: str = "default"
    """llama.cpp's name of how text is cut first."""
    merges: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    before: Mapping[str, GgufValue] = field(default_factory=dict)
    """Keys of this algorithm alone: in front of the common ones,"""
    after: Mapping[str, GgufValue] = field(default_factory=dict)
    """behind the tokens,"""
    last: Mapping[str, GgufValue] = field(default_factory=dict)
    """and behind everything."""


@dataclass(frozen=True)
class Deviation:
    """Where llama.cpp cannot do what a tokenizer does, but something near and well defined."""

    what: str
    """What it concerns, in a few words."""
    document: Mapping[str, Json]
    """The tokenizer.json that does what llama.cpp does."""


@dataclass(frozen=True)
class AddedToken:
    """An entry of ``added_tokens``: recognised before the text around it is cut."""

    index: int
    content: str
    control: bool
    """Not a word of the text but a sign to the model."""
    swallows_spaces: bool


class TokenTable:
    """Tokens by id while they are collected; an id that no token takes is padding."""

    def __init__(self, size: int) -> None:
        if not 0 < size <= _VOCABULARY_MAX:
            raise FormatError(f"config.json: a vocabulary of {size} tokens is not credible")
        self.tokens = [f"[PAD{i}]" for i in range(size)]
        self.kinds = [TokenKind.UNUSED] * size

    def put(self, index: Json, token: str, kind: TokenKind) -> None:
        """Set the token at ``index``.

        Raises:
            FormatError: the model has no such id.
        """
        at = token_id(index, len(self.tokens))
        self.tokens[at], self.kinds[at] = token, kind

    def put_words(self, model: Mapping[str, Json]) -> None:
        """Set the tokens of a vocabulary that maps tokens to ids."""
        vocabulary = model.get("vocab")
        if not isinstance(vocabulary, dict):
            raise FormatError("tokenizer.json has no vocabulary")
        for token, index in vocabulary.items():
            self.put(index, token, TokenKind.NORMAL)

    def put_added(self, added: Iterable[AddedToken]) -> None:
        """Set the added tokens; a user's own are spelled with ordinary spaces, as llama.cpp wants them."""
        for token in added:
            if token.control:
                self.put(token.index, token.content, TokenKind.CONTROL)
            else:
                self.put(token.index, token.content.replace(_SPACE, " "), TokenKind.USER_DEFINED)

    def require_distinct(self) -> None:
        """Raise FormatError where two ids have the same token."""
        if len(set(self.tokens)) != len(self.tokens):
            raise FormatError("tokenizer.json: two ids have the same token")


def added_tokens(document: Mapping[str, Json], *, spaces_merge: bool = False) -> tuple[AddedToken, ...]:
    """The added tokens of a tokenizer.json.

    Args:
        document: tokenizer.json.
        spaces_merge: the tokenizer drops spaces beside a token anyway, so that one may swallow them.

    Raises:
        UnsupportedConversionError: a token swallows the spaces beside it, which GGUF cannot express.
        FormatError: malformed.
    """
    added = tuple(_entries(document))
    for token in added:
        if token.swallows_spaces and not spaces_merge:
            raise UnsupportedConversionError(
                f"its token {token.content!r:.40} swallows spaces, which GGUF cannot express"
            )
    return added


def _entries(document: Mapping[str, Json]) -> Iterator[AddedToken]:
    entries = document.get("added_tokens") or []
    if not isinstance(entries, list):
        raise FormatError("tokenizer.json: added_tokens must be a list")
    for entry in entries:
        content = entry.get("content") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(content, str):
            raise FormatError("tokenizer.json: malformed added token")
        control = bool(entry.get("special")) or _LOOKS_SPECIAL.fullmatch(content) is not None
        swallows = bool(entry.get("lstrip") or entry.get("rstrip") or entry.get("single_word"))
        yield AddedToken(token_id(entry.get("id"), _VOCABULARY_MAX), content, control, swallows)


def token_id(value: Json, size: int) -> int:
    """``value`` as an id below ``size``.

    Raises:
        FormatError: it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < size:
        raise FormatError(
            f"tokenizer.json: token id {value!r:.40} is not below the model's vocab_size {size}",
            hint="tokenizer and config.json do not belong together",
        )
    return value
