"""SentencePiece's own files (tokenizer.model, sentencepiece.bpe.model): a bounded reader of the part of their protobuf
that we need.

Layout (https://github.com/google/sentencepiece, sentencepiece_model.proto; wire format:
https://protobuf.dev/programming-guides/encoding): a message whose field 1 repeats ``piece`` messages, each with the
text in field 1, a float32 score in field 2 and a kind in field 3; field 3 is the normalizer, with its table in field 2
and two switches in fields 3 and 4.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from citrate.core.errors import FormatError
from citrate.formats.documents import TOKENIZER_MAX_BYTES, inside, read_bounded

NAME = "tokenizer.model"
UNIGRAM_NAME = "sentencepiece.bpe.model"
"""What XLM-RoBERTa calls its file, though it is no BPE."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_PIECES_MAX = 1 << 22
_PIECE, _NORMALIZER = 1, 3
_NORMAL = 1


@dataclass(frozen=True)
class Piece:
    """A piece of text, and how likely it is."""

    text: str
    score: float
    kind: int
    """1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte: llama.cpp has the same numbers."""


@dataclass(frozen=True)
class SentencePiece:
    """A tokenizer as SentencePiece keeps it."""

    pieces: tuple[Piece, ...]
    """In the order of their ids."""
    charsmap: bytes = b""
    """The compiled table of normalised characters."""
    space_in_front: bool = True
    merges_spaces: bool = True


def read_scores(root: Path) -> tuple[tuple[str, float], ...]:
    """Text and score of every piece of tokenizer.model in the order of their ids; empty where the model has none.

    Raises:
        FormatError: malformed, or longer than any tokenizer.
    """
    found = read_sentencepiece(root, NAME)
    return tuple((piece.text, piece.score) for piece in found.pieces) if found else ()


def read_sentencepiece(root: Path, name: str) -> SentencePiece | None:
    """The file ``name`` of the model directory ``root``; None where it has none; raises as ``read_scores`` does."""
    if not (root / name).exists():
        return None
    data = memoryview(read_bounded(inside(root, name), TOKENIZER_MAX_BYTES))
    pieces: list[Piece] = []
    normalizer: list[memoryview] = []
    try:
        for field, value in _fields(data):
            if field == _PIECE:
                pieces.append(_piece(value))
            elif field == _NORMALIZER:
                normalizer.append(value)
            if len(pieces) > _PIECES_MAX:
                raise FormatError(f"{name}: more than {_PIECES_MAX} pieces are not credible")
        charsmap, switches = _normalizer(normalizer)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise FormatError(f"{name} is malformed: {error}", hint="download it again, or leave it out") from error
    return SentencePiece(tuple(pieces), charsmap, switches.get(3, True), switches.get(4, True))


def _piece(message: memoryview) -> Piece:
    text, score, kind = "", 0.0, _NORMAL
    for field, value in _fields(message):
        if field == 1:
            text = bytes(value).decode()
        elif field == 2:
            (score,) = struct.unpack("<f", value)
            if not math.isfinite(score):
                raise IndexError("a score that is no number")
        elif field == 3:
            kind, _ = _varint(value, 0)
    return Piece(text, score, kind)


def _normalizer(messages: list[memoryview]) -> tuple[bytes, dict[int, bool]]:
    """The table, and the switches by field; of several messages the last word counts, as protobuf wants it."""
    charsmap, switches = b"", {}
    for field, value in (entry for message in messages for entry in _fields(message)):
        if field == 2:
            charsmap = bytes(value)
        elif field in (3, 4):
            switches[field] = _varint(value, 0)[0] != 0
    return charsmap, switches


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and bytes of every field; of a varint the bytes that spell it."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind, start, size = key & 7, at, 0
        if kind == _VARINT:
            _, at = _varint(message, at)
            size, at = at - start, start
        elif kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise IndexError(f"wire type {kind}")
        if size > len(message) - at:
            raise IndexError("a field reaches past the end")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number at ``at`` and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise IndexError("a number of more than ten bytes")
