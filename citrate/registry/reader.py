"""Read files and folders out of their blocks, whatever wrote them: any chunking, any profile, sharded or not.

``Read`` returns the block of a CID, compared with it; everything here follows links from a root that is trusted, so
what comes out is what the root's author put in. Depths are bounded, since that author may be hostile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from citrate.core.errors import FormatError
from citrate.registry import cid as cids
from citrate.registry import dagpb
from citrate.registry.cid import Cid
from citrate.registry.dagpb import Kind, Node, UnixFs
from citrate.registry.paths import Read, is_shard_link

_FILE_DEPTH_MAX = 64
_SHARD_DEPTH_MAX = 8


@dataclass(frozen=True)
class Entry:
    """A child of a folder. ``tsize``: bytes of all its blocks, as the folder states them."""

    name: str
    cid: str
    tsize: int


@dataclass(frozen=True)
class _Part:
    """A piece of a file still to be read: its block, and which of its bytes are wanted."""

    cid: Cid
    start: int
    stop: int | None
    depth: int


def _node(read: Read, cid: str) -> tuple[Node, UnixFs]:
    node = dagpb.decode(read(cid))
    return node, dagpb.decode_unixfs(node.data)


def entries(read: Read, cid: str) -> list[Entry]:
    """The children of a folder, by name.

    Raises:
        NotFoundError: a block is not there.
        FormatError: a block is malformed, or no folder.
    """
    found = []
    for folder, block in directory_blocks(read, cid):
        node = dagpb.decode(block)
        shard = dagpb.decode_unixfs(node.data).kind == Kind.HAMT_SHARD
        for link in node.links:
            if not (shard and is_shard_link(link.name)):
                name = link.name[2:] if shard else link.name
                found.append(Entry(_text(name, folder), str(Cid.decode(link.cid)), link.tsize))
    return sorted(found, key=lambda entry: entry.name.encode())


def _text(name: bytes, folder: str) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{folder} has a name that is not UTF-8") from error


def directory_blocks(read: Read, cid: str) -> Iterator[tuple[str, bytes]]:
    """The blocks of a folder itself: one, or all shards of a HAMT, depth first.

    Raises:
        NotFoundError: a block is not there.
        FormatError: a block is malformed, or no folder; or a shard stands twice, which a name's hash rules out and
            which would let a few blocks unfold without end.
    """
    seen: set[Cid] = set()
    ahead = [(Cid.parse(cid), 0)]
    while ahead:
        at, depth = ahead.pop()
        if at.codec != cids.DAG_PB or depth > _SHARD_DEPTH_MAX or at in seen:
            raise FormatError(f"{cid} is not a directory")
        seen.add(at)
        block = read(str(at))
        node = dagpb.decode(block)
        kind = dagpb.decode_unixfs(node.data).kind
        if kind != Kind.HAMT_SHARD and (depth or kind != Kind.DIRECTORY):
            raise FormatError(f"{cid} is not a directory")
        yield str(at), block
        if kind == Kind.HAMT_SHARD:
            below = [Cid.decode(link.cid) for link in node.links if is_shard_link(link.name)]
            ahead.extend((shard, depth + 1) for shard in reversed(below))


def content(read: Read, cid: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """The bytes of a file from ``start`` up to ``stop``, in pieces of at most one block.

    Raises:
        NotFoundError: a block is not there.
        FormatError: a block is malformed, or no part of a file.
    """
    for _, _, piece in parts(read, cid, start, stop):
        if piece:
            yield piece


def parts(read: Read, cid: str, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, bytes, bytes]]:
    """The blocks of a file that hold its bytes from ``start`` up to ``stop``, depth first, root first.

    Yields:
        A block's CID, the block, and the wanted bytes that lie in it.

    Raises:
        NotFoundError: a block is not there.
        FormatError: a block is malformed, or no part of a file.
    """
    ahead = [_Part(Cid.parse(cid), start, stop, 0)]
    while ahead:
        part = ahead.pop()
        block = read(str(part.cid))
        if part.cid.codec == cids.RAW:
            yield str(part.cid), block, block[part.start : part.stop]
            continue
        node, record = _inner(part, block)
        end = record.size_bytes if part.stop is None else min(part.stop, record.size_bytes)
        yield str(part.cid), block, record.data[part.start : end]
        at, below = len(record.data), []
        for link, size in zip(node.links, record.sizes, strict=True):
            if part.start < at + size and at < end:
                inside = _Part(Cid.decode(link.cid), max(0, part.start - at), min(size, end - at), part.depth + 1)
                below.append(inside)
            at += size
        ahead.extend(reversed(below))


def _inner(part: _Part, block: bytes) -> tuple[Node, UnixFs]:
    if part.cid.codec == cids.DAG_PB and part.depth <= _FILE_DEPTH_MAX:
        node = dagpb.decode(block)
        record = dagpb.decode_unixfs(node.data)
        whole = len(record.sizes) == len(node.links) and record.size_bytes == len(record.data) + sum(record.sizes)
        if record.kind in (Kind.FILE, Kind.RAW) and whole:
            return node, record
        if record.kind in (Kind.FILE, Kind.RAW):
            raise FormatError(
                f"{part.cid} is malformed: the sizes it tells do not add up",
                hint="nobody has better bytes for this CID: who made it made it wrong",
            )
    raise FormatError(
        f"{part.cid} is no part of a file", hint="name the CID of a file, or of a folder and a path in it"
    )


def symlink(read: Read, cid: str) -> bytes:
    """Where a symbolic link points to, as its author wrote it; it is never followed here."""
    return _node(read, cid)[1].data
