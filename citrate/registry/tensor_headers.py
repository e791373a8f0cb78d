"""Where the tensors of a file lie, read from its first bytes while they come: the rule of ``citrate-tensor-v1``.

This rule decides CIDs: the same bytes must give the same boundaries for ever, on every machine. So it is not the
reader that loads models (which may learn new types and refuse more); it is written out, with test vectors, in
docs/decisions/tensor-profile.md, and a change here is a new profile. The file's name and size play no part in it.
"""

from __future__ import annotations

import math
import re
import struct
from array import array
from collections.abc import Generator, Mapping
from typing import TypeAlias

HEADER_MAX_BYTES = 64 << 20
"""Of the file's first bytes no more is looked at; a header that goes on behind them is none."""
TENSORS_MAX = 1 << 17
_KEYS_MAX = 1 << 16
_STRINGS_MAX = 1 << 22
_OFFSET_LIMIT = 1 << 63
_ALIGNMENT = 32
_ALIGNMENT_MAX = 1 << 16
_DIMENSIONS_MAX = 8

Boundaries: TypeAlias = "array[int]"
"""Ascending offsets (uint64): the header's end, then each place where a tensor, or the padding behind it, ends."""

Scan: TypeAlias = Generator[int, None, "Boundaries | None"]
"""Yields how many of the file's first bytes it must see to go on; returns the boundaries, or None: no such file."""


def scan(head: bytearray) -> Scan:
    """Find the boundaries of the file whose first bytes are put into ``head``, at most ``HEADER_MAX_BYTES``."""
    yield 4
    if head[:4] == b"GGUF":
        return (yield from _gguf(head))
    yield 9
    (length,) = struct.unpack_from("<Q", head)
    if head[8:9] != b"{":
        return None
    yield 8 + length
    return _safetensors(memoryview(head)[8 : 8 + length].tobytes(), 8 + length)


# ---------------------------------------------------------------------- SafeTensors

_WS = rb"[ \t\n\r]*+"
_STRING = rb'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"'
_TEXT = _STRING + _WS
_NUMBER = rb"(?:0|[1-9][0-9]{0,17})" + _WS
_COLON, _COMMA, _OPEN, _CLOSE = (token + _WS for token in (rb":", rb",", rb"\{", rb"\}"))
_LIST, _LIST_END = rb"\[" + _WS, rb"\]" + _WS


def _any_of(item: bytes) -> bytes:
    return rb"(?:" + item + rb"(?:" + _COMMA + item + rb")*+)?+"


_NAME = re.compile(rb"(" + _STRING + rb")" + _WS + _COLON)
_METADATA = re.compile(rb"(?:null" + _WS + rb"|" + _OPEN + _any_of(_TEXT + _COLON + _TEXT) + _CLOSE + rb")")
_FIELD = re.compile(
    rb'(?:"(?:(dtype)"' + _WS + _COLON + _TEXT
    + rb'|(shape)"' + _WS + _COLON + _LIST + _any_of(_NUMBER) + _LIST_END
    + rb'|(data_offsets)"' + _WS + _COLON
    + _LIST + rb"(" + _NUMBER + rb")" + _COMMA + rb"(" + _NUMBER + rb")" + _LIST_END
    + rb"))([,}])" + _WS
)  # fmt: skip
_BEGIN = re.compile(_OPEN)
_NEXT = re.compile(rb"([,}])" + _WS)
_EMPTY = re.compile(_OPEN + _CLOSE)


def _safetensors(text: bytes, header_end: int) -> Boundaries | None:
    """The boundaries that a header says; None if it is not of the form that the rule gives, to the last byte."""
    ranges = _ranges(text)
    if ranges is None:
        return None
    boundaries, at = array("Q", [header_end]), 0
    for begin, end in sorted(ranges):
        if begin != at or end < begin:
            return None
        if end > begin:
            boundaries.append(header_end + end)
        at = end
    return boundaries


def _ranges(text: bytes) -> list[tuple[int, int]] | None:
    """Each tensor's ``data_offsets``."""
    ranges = list[tuple[int, int]]()
    if _EMPTY.fullmatch(text):
        return ranges
    opened, texts, more = _BEGIN.match(text), 0, True
    at = opened.end() if opened is not None else 0
    while more:
        name = _NAME.match(text, at)
        if name is None:
            return None
        if name[1] == b'"__metadata__"':
            found, texts = _METADATA.match(text, name.end()), texts + 1
            if found is None or texts > 1:
                return None
            at = found.end()
        else:
            tensor = _tensor(text, name.end())
            if tensor is None or len(ranges) == TENSORS_MAX:
                return None
            ranges.append(tensor[:2])
            at = tensor[2]
        following = _NEXT.match(text, at)
        if following is None:
            return None
        at, more = following.end(), following[1] == b","
    return ranges if at == len(text) else None


def _tensor(text: bytes, at: int) -> tuple[int, int, int] | None:
    """``data_offsets`` of the tensor that begins at ``at``, and where what follows it begins."""
    seen: set[bytes] = set()
    begin = end = 0
    opened = _BEGIN.match(text, at)
    if opened is None:
        return None
    at = opened.end()
    for number in range(3):
        field = _FIELD.match(text, at)
        if field is None or (field[6] == b"}") != (number == 2):
            return None
        seen.add(field[1] or field[2] or field[3])
        if field[3]:
            begin, end = int(field[4]), int(field[5])
        at = field.end()
    return (begin, end, at) if len(seen) == 3 else None


# ---------------------------------------------------------------------- GGUF

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_STRING_TYPE, _ARRAY_TYPE = 8, 9
_UINT32_TYPE = 4
_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value, by the number of its type; texts and arrays tell theirs."""

BLOCKS: Mapping[int, tuple[int, int]] = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
"""Weights in a block and its bytes, by ggml's number of the type, as they stood when the rule was fixed. Of any other
type a tensor ends where the next one begins."""


def _gguf(head: bytearray) -> Scan:
    yield 24
    version, tensors, keys = struct.unpack_from("<IQQ", head, 4)
    if version not in (2, 3) or tensors > TENSORS_MAX or keys > _KEYS_MAX:
        return None
    metadata = yield from _metadata(head, keys)
    if metadata is None:
        return None
    at, alignment = metadata
    marks = array("Q", [0])  # as boundaries, from the start of the data
    least, exact = 0, True  # where the next tensor may begin at the earliest, and whether it must begin there
    for _ in range(tensors):
        found = yield from _info(head, at)
        if found is None:
            return None
        at, offset, size = found
        end = offset + (size or 0)
        if offset % alignment or offset < least or (exact and offset != least) or end > _OFFSET_LIMIT:
            return None
        for mark in (offset, end):
            if mark > marks[-1]:
                marks.append(mark)
        least, exact = _aligned(end, alignment), size is not None
    start = _aligned(at, alignment)
    return array("Q", [start + mark for mark in marks])


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def _metadata(head: bytearray, keys: int) -> Generator[int, None, tuple[int, int] | None]:
    """Where the key-value pairs end, and the alignment that they name."""
    at, named, strings = 24, 0, 0
    for _ in range(keys):
        yield at + 8
        (length,) = _U64.unpack_from(head, at)
        yield at + length + 12
        key, at = head[at + 8 : at + 8 + length], at + length + 12
        (kind,) = _U32.unpack_from(head, at - 4)
        count, is_array = 1, kind == _ARRAY_TYPE
        if is_array:
            yield at + 12
            kind, count = struct.unpack_from("<IQ", head, at)
            at += 12
        if kind == _STRING_TYPE:
            strings += count
            if strings > _STRINGS_MAX:
                return None
            at = yield from _texts(head, at, count)
        elif kind in _WIDTHS:
            at += count * _WIDTHS[kind]
            yield at
        else:
            return None
        if key == b"general.alignment":
            if named or is_array or kind != _UINT32_TYPE:
                return None
            (named,) = _U32.unpack_from(head, at - 4)
            if named % 8 or not 0 < named <= _ALIGNMENT_MAX:
                return None
    return at, named or _ALIGNMENT


def _texts(head: bytearray, at: int, count: int) -> Generator[int, None, int]:
    """Where ``count`` texts end that begin at ``at``; a tight loop, since a vocabulary has a million of them."""
    length_at = _U64.unpack_from
    for _ in range(count):
        if at + 8 > len(head):
            yield at + 8
        at += 8 + length_at(head, at)[0]
    yield at
    return at


def _info(head: bytearray, at: int) -> Generator[int, None, tuple[int, int, int | None] | None]:
    """Where a tensor's description ends, the offset it gives, and its bytes (None: of a type not in the table)."""
    yield at + 8
    at += 8 + _U64.unpack_from(head, at)[0]
    yield at + 4
    (dimensions,) = _U32.unpack_from(head, at)
    if dimensions > _DIMENSIONS_MAX:
        return None
    yield at + 16 + 8 * dimensions
    *shape, kind, offset = struct.unpack_from(f"<{dimensions}QIQ", head, at + 4)
    weights = math.prod(shape)
    block, block_bytes = BLOCKS.get(kind, (1, 0))
    if (shape[0] if shape else 1) % block or weights * block_bytes > _OFFSET_LIMIT:
        return None
    return at + 16 + 8 * dimensions, offset, weights // block * block_bytes if kind in BLOCKS else None
