"""SafeTensors and GGUF files made by hand, byte by byte, and a slow reference of the profile ``citrate-tensor-v1``.

The reference is written from docs/decisions/tensor-profile.md alone: whole file in memory, a JSON parser of the
standard library, no streaming. It shares no code with ``citrate.registry``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import ClassVar

MIB = 1 << 20


def safetensors(tensors: Mapping[str, bytes], metadata: Mapping[str, str] | None = None, *, align: int = 8) -> bytes:
    """A file of BF16 tensors in this order."""
    header: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    at = 0
    for name, data in tensors.items():
        header[name] = {"dtype": "BF16", "shape": [len(data) // 2], "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % align)
    return struct.pack("<Q", len(text)) + text + b"".join(tensors.values())


def gguf(tensors: Mapping[str, bytes], metadata: Mapping[str, bytes] | None = None, *, alignment: int = 32) -> bytes:
    """A file of BF16 tensors in this order; ``metadata`` holds encoded values with their type in front."""
    values = {b"general.name": value(8, text(b"a")), **{k.encode(): v for k, v in (metadata or {}).items()}}
    if alignment != 32:
        values[b"general.alignment"] = value(4, struct.pack("<I", alignment))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    head += b"".join(text(key) + encoded for key, encoded in values.items())
    at, body = 0, b""
    for name, data in tensors.items():
        head += text(name.encode()) + struct.pack("<IQIQ", 1, len(data) // 2, 30, at)
        padded = data + bytes(-len(data) % alignment)
        at, body = at + len(padded), body + padded
    return head + bytes(-len(head) % alignment) + body


def text(data: bytes) -> bytes:
    """A GGUF string."""
    return struct.pack("<Q", len(data)) + data


def value(kind: int, encoded: bytes) -> bytes:
    """A GGUF value with its type in front."""
    return struct.pack("<I", kind) + encoded


def fixed(size: int) -> list[int]:
    """Ends of leaves of 1 MiB."""
    return [*range(MIB, size, MIB), size]


def ends_of(boundaries: Sequence[int], size: int) -> list[int]:
    """Ends of leaves that begin anew at every boundary."""
    found, start = set[int](), 0
    for boundary in [*boundaries, size]:
        stop = min(boundary, size)
        found |= {*range(start + MIB, stop, MIB), stop} if stop > start else set()
        start = max(start, stop)
    return sorted(found)


def reference_cid(data: bytes, ends: Sequence[int]) -> str:
    """The CID of a file with these leaves: a balanced tree of 1024 links, dag-pb and UnixFS written out by hand."""
    parts, at = list[tuple[bytes, int, int]](), 0
    for end in ends:
        parts.append((b"\x01\x55\x12\x20" + hashlib.sha256(data[at:end]).digest(), end - at, end - at))
        at = end
    while len(parts) > 1:
        parts = [_parent(parts[at : at + 1024]) for at in range(0, len(parts), 1024)]
    return "b" + base64.b32encode(parts[0][0]).decode().lower().rstrip("=")


def _parent(below: list[tuple[bytes, int, int]]) -> tuple[bytes, int, int]:
    block = b""
    for cid, _, tsize in below:
        link = b"\x0a\x24" + cid + b"\x12\x00\x18" + _varint(tsize)
        block += b"\x12" + _varint(len(link)) + link
    size = sum(size for _, size, _ in below)
    data = b"\x08\x02\x18" + _varint(size) + b"".join(b"\x20" + _varint(size) for _, size, _ in below)
    block += b"\x0a" + _varint(len(data)) + data
    digest = hashlib.sha256(block).digest()
    return b"\x01\x70\x12\x20" + digest, size, len(block) + sum(tsize for _, _, tsize in below)


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def reference_ends(data: bytes) -> list[int]:
    """Where the leaves of a file end, by the rule's text."""
    boundaries = _gguf_boundaries(data) if data[:4] == b"GGUF" else _safetensors_boundaries(data)
    return fixed(len(data)) if boundaries is None else ends_of(boundaries, len(data))


def _safetensors_boundaries(data: bytes) -> list[int] | None:
    if len(data) < 9 or data[8:9] != b"{":
        return None
    (length,) = struct.unpack("<Q", data[:8])
    if 8 + length > min(64 * MIB, len(data)):
        return None
    try:
        # as Latin-1, since the rule does not look at bytes above 127; pairs, since a name may stand twice
        header = json.loads(data[8 : 8 + length].decode("latin-1"), object_pairs_hook=tuple)
        ranges = [_range(entry) for name, entry in header if name != "__metadata__"]
        texts = [entry for name, entry in header if name == "__metadata__"]
        if len(texts) > 1 or len(ranges) > 131072:
            return None
        for entry in texts:
            if entry is not None and not (
                isinstance(entry, tuple) and all(isinstance(value, str) for _, value in entry)
            ):
                return None
    except (ValueError, TypeError, KeyError):
        return None
    boundaries, at = [8 + length], 0
    for begin, end in sorted(ranges):
        if begin != at or end < begin:
            return None
        boundaries.append(8 + length + end)
        at = end
    return boundaries


def _range(entry: tuple[tuple[str, object], ...]) -> tuple[int, int]:
    if not isinstance(entry, tuple):
        raise TypeError("no object")
    fields = dict(entry)
    if sorted(name for name, _ in entry) != ["data_offsets", "dtype", "shape"]:
        raise ValueError("fields")
    begin, end = fields["data_offsets"]  # type: ignore[misc]  # a TypeError here is one of the answers
    shape = fields["shape"]
    if not isinstance(fields["dtype"], str) or not isinstance(shape, list):
        raise TypeError("no tensor")
    for number in [begin, end, *shape]:
        if type(number) is not int or not 0 <= number < 10**18:
            raise ValueError("no number")
    return begin, end


def _gguf_boundaries(data: bytes) -> list[int] | None:
    try:
        return _Gguf(data[: 64 * MIB]).boundaries()
    except (struct.error, ValueError, KeyError):
        return None


class _Gguf:
    """Reads a header front to back; a ``struct.error`` is its end."""

    sizes: ClassVar = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    types: ClassVar = {0: (1, 4), 1: (1, 2), 30: (1, 2), 8: (32, 34), 2: (32, 18), 12: (256, 144)}
    """Those that the tests use."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 4

    def take(self, layout: str) -> tuple[int, ...]:
        found = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return found

    def skip(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise ValueError("behind the end")
        self.at += count
        return self.data[self.at - count : self.at]

    def boundaries(self) -> list[int]:
        version, tensors, keys = self.take("IQQ")
        if version not in (2, 3) or tensors > 131072 or keys > 65536:
            raise ValueError("counts")
        alignment, strings = 0, 0
        for _ in range(keys):
            key = self.skip(*self.take("Q"))
            (kind,), count = self.take("I"), 1
            listed = kind == 9
            if listed:
                kind, count = self.take("IQ")
            if kind == 8:
                strings += count
                if strings > 1 << 22:
                    raise ValueError("strings")
                for _ in range(count):
                    self.skip(*self.take("Q"))
            else:
                last = self.skip(count * self.sizes[kind])
            if key == b"general.alignment":
                if alignment or listed or kind != 4:
                    raise ValueError("alignment")
                (alignment,) = struct.unpack("<I", last)
                if alignment % 8 or not 0 < alignment <= 65536:
                    raise ValueError("alignment")
        return self.tensors(tensors, alignment or 32)

    def tensors(self, count: int, alignment: int) -> list[int]:
        marks, free, exact = {0}, 0, True
        for _ in range(count):
            self.skip(*self.take("Q"))
            (dimensions,) = self.take("I")
            if dimensions > 8:
                raise ValueError("dimensions")
            *shape, kind, offset = self.take(f"{dimensions}QIQ")
            known = kind in self.types
            block, size = self.types.get(kind, (1, 0))
            end = offset + math.prod(shape) // block * size
            wrong = (shape or [1])[0] % block or offset % alignment or offset < free or (exact and offset != free)
            if wrong or end > 1 << 63:
                raise ValueError("tensor")
            marks |= {offset, end}
            free, exact = -(-end // alignment) * alignment, known
        start = -(-self.at // alignment) * alignment
        return sorted(start + mark for mark in marks)
