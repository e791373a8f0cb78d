"""SafeTensors and GGUF files made by hand, byte by byte, and a slow reference of the profile ``citrate-tensor-v1``.

The reference is written from docs/decisions/tensor-profile.md alone: whole file in memory, a JSON parser of the
standard library, no streaming. It shares no code with ``citrate.registry``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Mapping, Sequence

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
