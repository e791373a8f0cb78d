"""From hashes of leaves to the CID of a file or directory, exactly as the profile ``unixfs-v1-2025`` says.

The profile (IPIP-499, https://specs.ipfs.tech/ipips/ipip-0499/): CIDv1, raw leaves of 1 MiB, balanced trees of
1024 links, directories that become a HAMT of fanout 256 when their block would pass 256 KiB. With it the shape of a
file's tree, and with it every inner block's length, follows from the file's size alone; only the hashes do not.
Files whose leaves are cut elsewhere are the subject of ``cut_dag``.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import mmh3

from citrate.core.digests import check_path
from citrate.core.errors import FormatError
from citrate.core.records import PROFILE as PROFILE
from citrate.core.records import FileEntry
from citrate.registry import cid as cids
from citrate.registry import dagpb
from citrate.registry.cid import DAG_PB, DIGEST_BYTES, RAW
from citrate.registry.dagpb import Link

CHUNK_BYTES = 1 << 20
WIDTH = 1024
FANOUT = 256
SHARD_THRESHOLD_BYTES = 256 << 10
DEPTH_MAX = 64
"""Folders inside folders; more is refused, so that a hostile manifest cannot make anything recurse."""


@dataclass(frozen=True, slots=True)
class InnerNode:
    """A dag-pb block and its digest."""

    digest: bytes
    block: bytes


@dataclass(frozen=True, slots=True)
class Dag:
    """The root of a file or directory with all dag-pb blocks below it (root first in its own level, leaves not
    included). ``tsize``: bytes of all blocks, as links to it state them."""

    codec: int
    digest: bytes
    tsize: int
    nodes: tuple[InnerNode, ...] = ()

    @property
    def cid(self) -> str:
        """The root's CID."""
        return cids.encode(self.codec, self.digest)

    @property
    def binary_cid(self) -> bytes:
        """The root's CID in binary."""
        return cids.to_bytes(self.codec, self.digest)


def leaf_count(size_bytes: int) -> int:
    """How many leaves a file of this size has; an empty file has one."""
    return max(1, -(-size_bytes // CHUNK_BYTES))


def file_tsize(size_bytes: int) -> int:
    """Bytes of all blocks of a file of this size: what a directory's link to it states as Tsize."""
    return _tsize(size_bytes, file_height(size_bytes))


def file_height(size_bytes: int) -> int:
    """Levels of links above the leaves of a file of this size; 0 when its only leaf is the root."""
    height, span = 0, CHUNK_BYTES
    while span < size_bytes:
        height, span = height + 1, span * WIDTH
    return height


@functools.lru_cache(maxsize=4096)
def _tsize(size_bytes: int, height: int) -> int:
    """As ``file_tsize``, for a subtree of a given height: all leaves stand at the same depth, so a lone last child
    is still wrapped."""
    if height == 0:
        return size_bytes
    sizes = _split(size_bytes, height)
    tsizes = [_tsize(size, height - 1) for size in sizes]
    data = dagpb.file_data(sizes)
    links = sum(dagpb.link_bytes(0, tsize) for tsize in tsizes)
    return links + 1 + len(dagpb.varint(len(data))) + len(data) + sum(tsizes)


def _split(size_bytes: int, height: int) -> list[int]:
    span = CHUNK_BYTES * WIDTH ** (height - 1)
    return [min(span, size_bytes - at) for at in range(0, size_bytes, span)]


def file_dag(leaves: bytes, size_bytes: int) -> Dag:
    """Build the tree of a file.

    Args:
        leaves: the SHA-256 of each leaf in order, 32 bytes each, one after the other.
        size_bytes: the file's size.
    """
    assert len(leaves) == leaf_count(size_bytes) * DIGEST_BYTES
    nodes: list[InnerNode] = []
    codec, digest = _subtree(leaves, size_bytes, file_height(size_bytes), nodes)
    return Dag(codec, digest, file_tsize(size_bytes), tuple(nodes))


def _subtree(leaves: bytes, size_bytes: int, height: int, nodes: list[InnerNode]) -> tuple[int, bytes]:
    if height == 0:
        return RAW, leaves
    sizes = _split(size_bytes, height)
    links, at = [], 0
    for size in sizes:
        below = leaf_count(size) * DIGEST_BYTES
        codec, digest = _subtree(leaves[at : at + below], size, height - 1, nodes)
        links.append(Link(cids.to_bytes(codec, digest), b"", _tsize(size, height - 1)))
        at += below
    return DAG_PB, _append(nodes, dagpb.encode(links, dagpb.file_data(sizes)))


def inner_node(block: bytes) -> InnerNode:
    """The node with that block."""
    return InnerNode(hashlib.sha256(block).digest(), block)


def _append(nodes: list[InnerNode], block: bytes) -> bytes:
    node = inner_node(block)
    nodes.append(node)
    return node.digest


def file_children(block: bytes, size_bytes: int, height: int) -> list[tuple[bytes, int]]:
    """Read an inner node of a file, refusing any that this profile would not have written.

    Args:
        block: the dag-pb block, already compared with its CID.
        size_bytes: the file bytes that must lie under it.
        height: how many levels of links lie under it (1: its children are leaves).

    Returns:
        Digest and file bytes of each child.

    Raises:
        FormatError: the block is not the one node of that size and height that the profile allows.
    """
    sizes = _split(size_bytes, height)
    node = dagpb.decode(block)
    codec = RAW if height == 1 else DAG_PB
    digests = [cids.from_bytes(link.cid)[1] for link in node.links]
    if len(digests) == len(sizes):
        parts = zip(digests, sizes, strict=True)
        links = [Link(cids.to_bytes(codec, digest), b"", _tsize(size, height - 1)) for digest, size in parts]
        if dagpb.encode(links, dagpb.file_data(sizes)) == block:
            return list(zip(digests, sizes, strict=True))
    raise FormatError(f"block is not an inner node of a {size_bytes}-byte part of a file in profile {PROFILE}")


@dataclass
class _Folder:
    files: dict[str, FileEntry] = field(default_factory=dict)
    folders: dict[str, _Folder] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Directory:
    """The tree of a directory: its root, every dag-pb block of its folders (files' blocks not included), and the
    CID of each folder by path (the root is the empty path)."""

    root: Dag
    folders: dict[str, str]


def directory(files: Iterable[FileEntry]) -> Directory:
    """Build the tree of a directory from its files' paths, sizes and CIDs; nothing is read.

    Raises:
        FormatError: an unsafe path, one path twice, a file that is also a folder, or folders nested too deep.
    """
    top = _Folder()
    for entry in files:
        _place(top, entry)
    folders: dict[str, str] = {}
    return Directory(_folder_dag(top, "", folders), folders)


def _place(folder: _Folder, entry: FileEntry) -> None:
    *parents, name = check_path(entry.path).split("/")
    if len(parents) > DEPTH_MAX:
        raise FormatError(f"path {entry.path[:200]!r} is nested more than {DEPTH_MAX} folders deep")
    for parent in parents:
        if parent in folder.files:
            raise FormatError(f"{entry.path!r}: {parent!r} is both a file and a folder")
        folder = folder.folders.setdefault(parent, _Folder())
    if name in folder.files or name in folder.folders:
        raise FormatError(f"path {entry.path!r} stands twice in the directory")
    folder.files[name] = entry


def _folder_dag(folder: _Folder, path: str, folders: dict[str, str]) -> Dag:
    links: list[Link] = []
    nodes: list[InnerNode] = []
    for name, entry in folder.files.items():
        tsize = file_tsize(entry.size_bytes) if entry.tsize is None else entry.tsize
        links.append(Link(cids.to_bytes(*cids.decode(entry.cid)), name.encode(), tsize))
    for name, below in folder.folders.items():
        dag = _folder_dag(below, f"{path}/{name}".lstrip("/"), folders)
        links.append(Link(dag.binary_cid, name.encode(), dag.tsize))
        nodes.extend(dag.nodes)
    dag = _directory_dag(links, nodes)
    folders[path] = dag.cid
    return dag


def _directory_dag(links: list[Link], nodes: list[InnerNode]) -> Dag:
    links.sort(key=lambda link: link.name)
    block = dagpb.encode(links, dagpb.directory_data())
    if len(block) > SHARD_THRESHOLD_BYTES:
        hashed = [(name_hash(link.name), link) for link in links]
        root = shard(hashed, 0, nodes, lambda digest: cids.to_bytes(DAG_PB, digest))
        return Dag(DAG_PB, cids.from_bytes(root.cid)[1], root.tsize, tuple(nodes))
    return Dag(DAG_PB, _append(nodes, block), len(block) + sum(link.tsize for link in links), tuple(nodes))


def name_hash(name: bytes) -> bytes:
    """First half of murmur3-x64-128, big-endian: 8 bytes, one for each level of the HAMT."""
    first: int = mmh3.hash64(name, 0, x64arch=True, signed=False)[0]
    return first.to_bytes(8, "big")


def shard(
    entries: list[tuple[bytes, Link]], depth: int, nodes: list[InnerNode], to_cid: Callable[[bytes], bytes]
) -> Link:
    """Build a HAMT directory, or the part of one below a shard.

    Args:
        entries: the links, each with the hash of its name.
        depth: how many bytes of the hashes are used up.
        nodes: takes the shards, children first.
        to_cid: the binary CID of a shard with this digest, as the profile writes it.

    Raises:
        FormatError: two names with the same hash.
    """
    if depth == 8:
        raise FormatError("two file names with the same 64-bit hash cannot stand in one HAMT directory")
    places: dict[int, list[tuple[bytes, Link]]] = {}
    for hashed, link in entries:
        places.setdefault(hashed[depth], []).append((hashed, link))
    links, bitfield = [], 0
    for place, there in sorted(places.items()):
        bitfield |= 1 << place
        prefix = b"%02X" % place
        below = there[0][1] if len(there) == 1 else shard(there, depth + 1, nodes, to_cid)
        links.append(Link(below.cid, prefix + below.name, below.tsize))
    block = dagpb.encode(links, dagpb.shard_data(bitfield, FANOUT))
    tsize = len(block) + sum(link.tsize for link in links)
    return Link(to_cid(_append(nodes, block)), b"", tsize)
