"""dag-pb blocks and the UnixFS records inside them, byte for byte as Kubo writes them.

Source: https://ipld.io/specs/codecs/dag-pb/spec/ and https://specs.ipfs.tech/unixfs/. Where Kubo's bytes and the
specification's text differ (a file link's empty name is written), Kubo's bytes are followed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from citrate.core.errors import FormatError
from citrate.registry import cid as cids
from citrate.registry.varint import read_varint, varint

__all__ = [
    "BLOCK_MAX_BYTES", "Kind", "Link", "Node", "UnixFs", "decode", "decode_unixfs", "directory_data", "encode",
    "file_data", "leaf_data", "link_bytes", "read_varint", "shard_data", "varint",
]  # fmt: skip

BLOCK_MAX_BYTES = 2 << 20
"""The largest block that IPFS nodes exchange."""

_LINKS_TAG, _DATA_TAG = 0x12, 0x0A
_HASH_TAG, _NAME_TAG, _TSIZE_TAG = 0x0A, 0x12, 0x18
_MURMUR3_X64_64 = 0x22
_VARINT_TYPE, _BYTES_TYPE = 0, 2
_UNIXFS_DATA_TAG, _SIZE_TAG, _PACKED_SIZES_TAG = 0x12, 0x20, 0x22


@dataclass(frozen=True, slots=True)
class Link:
    """A link to a child: its binary CID (36 bytes in what citrate writes), its name as UTF-8, and the bytes of all
    blocks of its DAG."""

    cid: bytes
    name: bytes
    tsize: int


@dataclass(frozen=True, slots=True)
class Node:
    """A decoded dag-pb block."""

    links: tuple[Link, ...]
    data: bytes


def link_bytes(name_bytes: int, tsize: int) -> int:
    """Length of an encoded link with a name of ``name_bytes``, its own tag and length included."""
    body = 2 + cids.BINARY_BYTES + 1 + len(varint(name_bytes)) + name_bytes + 1 + len(varint(tsize))
    return 1 + len(varint(body)) + body


def encode(links: Iterable[Link], data: bytes) -> bytes:
    """Encode a block: all links, then the data."""
    out = bytearray()
    for link in links:
        body = b"".join((
            bytes((_HASH_TAG, len(link.cid))), link.cid,
            bytes((_NAME_TAG,)), varint(len(link.name)), link.name,
            bytes((_TSIZE_TAG,)), varint(link.tsize),
        ))  # fmt: skip
        out += bytes((_LINKS_TAG,)) + varint(len(body)) + body
    return bytes(out) + bytes((_DATA_TAG,)) + varint(len(data)) + data


def decode(block: bytes) -> Node:
    """Decode a dag-pb block of at most 2 MiB, with its data before or after its links.

    Raises:
        FormatError: too large, malformed, or a link without a CID.
    """
    if len(block) > BLOCK_MAX_BYTES:
        raise FormatError(f"block of {len(block)} bytes, more than {BLOCK_MAX_BYTES}")
    links, at, data = [], 0, None
    while at < len(block):
        tag = block[at]
        first = at == 0
        body, at = _field(block, at + 1)
        if tag == _DATA_TAG and data is None and (first or at == len(block)):
            data = body
        elif tag == _LINKS_TAG:
            links.append(_decode_link(body))
        else:
            raise FormatError("malformed dag-pb block")
    return Node(tuple(links), data or b"")


def _field(block: bytes, at: int) -> tuple[bytes, int]:
    length, at = read_varint(block, at)
    if length > len(block) - at:
        raise FormatError("truncated dag-pb block")
    return block[at : at + length], at + length


def _decode_link(body: bytes) -> Link:
    cid, name, tsize, at = b"", b"", 0, 0
    if body[at : at + 1] == bytes((_HASH_TAG,)):
        cid, at = _field(body, at + 1)
    if body[at : at + 1] == bytes((_NAME_TAG,)):
        name, at = _field(body, at + 1)
    if body[at : at + 1] == bytes((_TSIZE_TAG,)):
        tsize, at = read_varint(body, at + 1)
    if at != len(body) or not cid:
        raise FormatError("malformed link in a dag-pb block")
    if len(cid) != cids.BINARY_BYTES or cid[:4] != b"\x01\x55\x12\x20":  # a raw leaf's needs no closer look
        cids.Cid.decode(cid)
    return Link(cid, name, tsize)


class Kind(IntEnum):
    """What a UnixFS record describes."""

    RAW = 0
    DIRECTORY = 1
    FILE = 2
    METADATA = 3
    SYMLINK = 4
    HAMT_SHARD = 5


@dataclass(frozen=True, slots=True)
class UnixFs:
    """A decoded UnixFS record. ``sizes``: the file bytes under each link, of an inner node of a file."""

    kind: Kind
    data: bytes = b""
    size_bytes: int = 0
    sizes: tuple[int, ...] = ()
    fanout: int = 0


def decode_unixfs(record: bytes) -> UnixFs:
    """Decode the data of a dag-pb node; modes and times (UnixFS 1.5) and what later versions add are passed over.

    Raises:
        FormatError: malformed, or of an unknown kind.
    """
    numbers: dict[int, int] = {}
    sizes: list[int] = []
    data, at = b"", 0
    while at < len(record):
        tag, at = read_varint(record, at)
        if tag & 7 == _BYTES_TYPE:
            body, at = _field(record, at)
            if tag == _UNIXFS_DATA_TAG:
                data = body
            elif tag == _PACKED_SIZES_TAG:
                sizes.extend(_packed(body))
        elif tag & 7 == _VARINT_TYPE:
            number, at = read_varint(record, at)
            if tag == _SIZE_TAG:
                sizes.append(number)
            numbers[tag] = number
        else:
            raise FormatError("malformed UnixFS record")
    kind = numbers.get(0x08, -1)
    if kind not in list(Kind):
        raise FormatError("UnixFS record of an unknown kind")
    return UnixFs(Kind(kind), data, numbers.get(0x18, len(data)), tuple(sizes), numbers.get(0x30, 0))


def _packed(body: bytes) -> list[int]:
    numbers, at = [], 0
    while at < len(body):
        number, at = read_varint(body, at)
        numbers.append(number)
    return numbers


def file_data(sizes: Sequence[int]) -> bytes:
    """The UnixFS record of a file's inner node; ``sizes`` are the file bytes under each child."""
    record = bytes((0x08, Kind.FILE, 0x18)) + varint(sum(sizes))
    return record + b"".join(b"\x20" + varint(size) for size in sizes)


def leaf_data(data: bytes) -> bytes:
    """The UnixFS record of a leaf that is no raw block, as the profile of 2015 has them."""
    inside = b"\x12" + varint(len(data)) + data if data else b""
    return bytes((0x08, Kind.FILE)) + inside + b"\x18" + varint(len(data))


def directory_data() -> bytes:
    """The UnixFS record of a directory in one block."""
    return bytes((0x08, Kind.DIRECTORY))


def shard_data(bitfield: int, fanout: int) -> bytes:
    """The UnixFS record of one HAMT shard; ``bitfield`` has a bit for each link's place."""
    field = bitfield.to_bytes(fanout // 8, "big").lstrip(b"\0")
    return (
        bytes((0x08, Kind.HAMT_SHARD, 0x12)) + varint(len(field)) + field
        + b"\x28" + varint(_MURMUR3_X64_64) + b"\x30" + varint(fanout)
    )  # fmt: skip
