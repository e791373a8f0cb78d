"""Scores out of a tokenizer.model, SentencePiece's own file: a bounded reader of the part of its protobuf we need.

Layout (https://github.com/google/sentencepiece, sentencepiece_model.proto; wire format:
https://protobuf.dev/programming-guides/encoding): a message whose field 1 repeats ``piece`` messages, each with the
text in field 1 and a float32 score in field 2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from citrate.core.errors import FormatError
from citrate.formats.documents import TOKENIZER_MAX_BYTES, inside, read_bounded

NAME = "tokenizer.model"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_PIECES_MAX = 1 << 22


def read_scores(root: Path) -> tuple[tuple[str, float], ...]:
    """Text and score of every piece in the order of their ids; empty where the model has no tokenizer.model.

    Raises:
        FormatError: malformed, or longer than any tokenizer.
    """
    if not (root / NAME).exists():
        return ()
    data = memoryview(read_bounded(inside(root, NAME), TOKENIZER_MAX_BYTES))
    try:
        pieces = [_piece(value) for field, value in _fields(data) if field == 1]
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise FormatError(f"{NAME} is malformed: {error}", hint="download it again, or leave it out") from error
    if len(pieces) > _PIECES_MAX:
        raise FormatError(f"{NAME}: {len(pieces)} pieces are not credible")
    return tuple(pieces)


def _piece(message: memoryview) -> tuple[str, float]:
    text, score = "", 0.0
    for field, value in _fields(message):
        if field == 1:
            text = bytes(value).decode()
        elif field == 2:
            (score,) = struct.unpack("<f", value)
    return text, score


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and bytes of every field; a varint's bytes are empty."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind, size = key & 7, 0
        if kind == _VARINT:
            _, at = _varint(message, at)
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
