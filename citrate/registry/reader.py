"""Read files and directories out of their blocks, whatever wrote them.

``Read`` returns the block of a CID, compared with it; everything here follows links from a root that is trusted, so
what comes out is what the root's author put in. Depths and sizes are bounded, since that author may be hostile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from citrate.core.errors import FormatError, NotFoundError
from citrate.registry import cid as cids
from citrate.registry import dag, dagpb
from citrate.registry.dagpb import Kind, Link, Node, UnixFs

Read: TypeAlias = Callable[[str], bytes]

_FILE_DEPTH_MAX = 8
_SHARD_DEPTH_MAX = 8


@dataclass(frozen=True)
class Entry:
    """A child of a directory. ``tsize``: bytes of all its blocks, as the directory states them."""

    name: str
    cid: str
    tsize: int


@dataclass(frozen=True)
class Found:
    """Where a path leads. ``via``: the CIDs of the blocks that were read on the way, root first, ``cid`` excluded."""

    cid: str
    is_directory: bool
    size_bytes: int
    via: tuple[str, ...]


def find(read: Read, root: str, path: str = "") -> Found:
    """Follow ``path`` (names between ``/``) from ``root``.

    Raises:
        NotFoundError: a name does not exist, or a block is not there.
        FormatError: a block is malformed, or is neither a file nor a directory.
    """
    cid, via = root, list[str]()
    for name in filter(None, path.split("/")):
        cid, passed = _step(read, cid, name)
        via.extend(passed)
    if cids.decode(cid)[0] == cids.RAW:
        return Found(cid, False, len(read(cid)), tuple(via))
    _, record = _node(read, cid)
    if record.kind in (Kind.DIRECTORY, Kind.HAMT_SHARD):
        return Found(cid, True, 0, tuple(via))
    if record.kind in (Kind.FILE, Kind.RAW):
        return Found(cid, False, record.size_bytes, tuple(via))
    raise FormatError(f"{cid} is neither a file nor a directory")


def _node(read: Read, cid: str) -> tuple[Node, UnixFs]:
    node = dagpb.decode(read(cid))
    return node, dagpb.decode_unixfs(node.data)


def _text(link: Link) -> str:
    return cids.encode(*cids.from_bytes(link.cid))


def _step(read: Read, cid: str, name: str) -> tuple[str, list[str]]:
    """The child ``name`` of a directory, and the blocks read to find it."""
    wanted, passed = name.encode(), list[str]()
    name_hash = dag.name_hash(wanted)
    for depth in range(_SHARD_DEPTH_MAX):
        if cids.decode(cid)[0] == cids.RAW:
            break
        node, record = _node(read, cid)
        passed.append(cid)
        prefix = b"%02X" % name_hash[depth] if record.kind == Kind.HAMT_SHARD else b""
        if record.kind not in (Kind.DIRECTORY, Kind.HAMT_SHARD) or (prefix and record.fanout != dag.FANOUT):
            break
        for link in node.links:
            if link.name == prefix + wanted:
                return _text(link), passed
        below = [link for link in node.links if prefix and link.name == prefix]
        if not below:
            break
        cid = _text(below[0])
    raise NotFoundError(f"no {name!r} under {passed[0] if passed else cid}")


def entries(read: Read, cid: str) -> list[Entry]:
    """The children of a directory, by name.

    Raises:
        NotFoundError: a block is not there.
        FormatError: a block is malformed, or no directory.
    """
    return sorted(_entries(read, cid, 0), key=lambda entry: entry.name)


def _entries(read: Read, cid: str, depth: int) -> Iterator[Entry]:
    node, record = _node(read, cid)
    if depth > _SHARD_DEPTH_MAX or record.kind not in (Kind.DIRECTORY, Kind.HAMT_SHARD):
        raise FormatError(f"{cid} is not a directory")
    prefix = 2 if record.kind == Kind.HAMT_SHARD else 0
    for link in node.links:
        if prefix and len(link.name) == prefix:
            yield from _entries(read, _text(link), depth + 1)
        else:
            yield Entry(link.name[prefix:].decode(errors="replace"), _text(link), link.tsize)


def directory_blocks(read: Read, cid: str, depth: int = 0) -> Iterator[tuple[str, bytes]]:
    """The blocks of a directory itself: one, or all shards of a HAMT."""
    block = read(cid)
    yield cid, block
    node = dagpb.decode(block)
    if dagpb.decode_unixfs(node.data).kind == Kind.HAMT_SHARD and depth < _SHARD_DEPTH_MAX:
        for link in node.links:
            if len(link.name) == 2:
                yield from directory_blocks(read, _text(link), depth + 1)


def content(read: Read, cid: str, start: int = 0, stop: int | None = None, depth: int = 0) -> Iterator[bytes]:
    """The bytes of a file from ``start`` up to ``stop``, in pieces of at most one block.

    Raises:
        NotFoundError: a block is not there.
        FormatError: a block is malformed, or no part of a file.
    """
    if cids.decode(cid)[0] == cids.RAW:
        yield read(cid)[start:stop]
        return
    node, record = _node(read, cid)
    whole = len(record.sizes) == len(node.links) and record.size_bytes == len(record.data) + sum(record.sizes)
    if record.kind not in (Kind.FILE, Kind.RAW) or not whole or depth > _FILE_DEPTH_MAX:
        raise FormatError(f"{cid} is no part of a file")
    stop = record.size_bytes if stop is None else min(stop, record.size_bytes)
    if inline := record.data[start:stop]:
        yield inline
    at = len(record.data)
    for link, size in zip(node.links, record.sizes, strict=True):
        if start < at + size and at < stop:
            yield from content(read, _text(link), max(0, start - at), min(size, stop - at), depth + 1)
        at += size
