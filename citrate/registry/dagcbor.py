"""DAG-CBOR, decoded: CBOR with links in tag 42, and with everything refused that could be written in two ways.

Source: https://ipld.io/specs/codecs/dag-cbor/spec/. Also reads plain CBOR documents that keep to the same subset. A
block is untrusted: its depth is bounded, and every length is compared with what is left before anything is made of it.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

from citrate.core.errors import FormatError
from citrate.registry.cid import Cid
from citrate.registry.varint import varint

Ipld: TypeAlias = None | bool | int | float | str | bytes | Cid | list["Ipld"] | dict[str, "Ipld"]
"""What a block of data holds."""

DEPTH_MAX = 256
_LINK_TAG = 42
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}


def decode(block: bytes) -> Ipld:
    """Decode one document.

    Raises:
        FormatError: malformed, with an indefinite length, another tag than a link's, a key that is no text or stands
            twice, nested more than 256 deep, or with bytes after it.
    """
    value, end = _value(block, 0, 0)
    if end != len(block):
        raise FormatError("bytes after a DAG-CBOR document")
    return value


def _value(block: bytes, at: int, depth: int) -> tuple[Ipld, int]:
    if depth > DEPTH_MAX:
        raise FormatError(f"DAG-CBOR nested more than {DEPTH_MAX} deep")
    start = at
    major, number, at = _head(block, at)
    match major:
        case 0:
            return number, at
        case 1:
            return -1 - number, at
        case 2:
            return _take(block, at, number)
        case 3:
            return _text(block, at, number)
        case 4:
            return _list(block, at, number, depth)
        case 5:
            return _map(block, at, number, depth)
        case 6:
            return _link(block, at, number)
    return _simple(block, start, number, at)


def _head(block: bytes, at: int) -> tuple[int, int, int]:
    """Major type, argument, and where the rest begins."""
    if at >= len(block):
        raise FormatError("truncated DAG-CBOR")
    major, short = block[at] >> 5, block[at] & 31
    if short < 24:
        return major, short, at + 1
    if short > 27:
        raise FormatError("DAG-CBOR with an indefinite length or a reserved head")
    length = 1 << (short - 24)
    raw, end = _take(block, at + 1, length)
    return major, int.from_bytes(raw, "big"), end


def _take(block: bytes, at: int, length: int) -> tuple[bytes, int]:
    if length > len(block) - at:
        raise FormatError("truncated DAG-CBOR")
    return block[at : at + length], at + length


def _text(block: bytes, at: int, length: int) -> tuple[str, int]:
    """Text; bytes that are no UTF-8 are kept as lone surrogates, since there are chains full of such documents."""
    raw, at = _take(block, at, length)
    return raw.decode(errors="surrogateescape"), at


def _list(block: bytes, at: int, count: int, depth: int) -> tuple[list[Ipld], int]:
    if count > len(block) - at:
        raise FormatError("truncated DAG-CBOR")
    items: list[Ipld] = []
    for _ in range(count):
        item, at = _value(block, at, depth + 1)
        items.append(item)
    return items, at


def _map(block: bytes, at: int, count: int, depth: int) -> tuple[dict[str, Ipld], int]:
    if count > len(block) - at:
        raise FormatError("truncated DAG-CBOR")
    items: dict[str, Ipld] = {}
    for _ in range(count):
        key, at = _value(block, at, depth + 1)
        if not isinstance(key, str) or key in items:
            raise FormatError("DAG-CBOR map with a key that is no text, or stands twice")
        items[key], at = _value(block, at, depth + 1)
    return items, at


def _link(block: bytes, at: int, tag: int) -> tuple[Cid, int]:
    if tag != _LINK_TAG:
        raise FormatError(f"DAG-CBOR with tag {tag}")
    major, length, at = _head(block, at)
    raw, at = _take(block, at, length)
    if major != 2 or raw[:1] != b"\0":
        raise FormatError("malformed link in DAG-CBOR")
    return Cid.decode(raw[1:]), at


def _simple(block: bytes, start: int, number: int, at: int) -> tuple[Ipld, int]:
    short = block[start] & 31
    if short in _FLOATS:
        (value,) = struct.unpack(_FLOATS[short], block[start + 1 : at])
        return float(value), at
    known: dict[int, Ipld] = {20: False, 21: True, 22: None}
    if short >= 24 or number not in known:
        raise FormatError("DAG-CBOR with an unknown simple value")
    return known[number], at


def car_header(roots: list[Cid]) -> bytes:
    """The header of a CAR: ``{"roots": [...], "version": 1}``, with its length in front."""
    body = b"\xa2\x65roots" + _head_bytes(4, len(roots))
    for root in roots:
        link = b"\0" + root.binary
        body += b"\xd8\x2a" + _head_bytes(2, len(link)) + link
    body += b"\x67version\x01"
    return varint(len(body)) + body


def _head_bytes(major: int, number: int) -> bytes:
    if number < 24:
        return bytes((major << 5 | number,))
    length = next(length for length in (1, 2, 4, 8) if number < 1 << 8 * length)
    return bytes((major << 5 | 23 + length.bit_length(),)) + number.to_bytes(length, "big")
