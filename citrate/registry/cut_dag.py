"""Trees of files whose leaves have any length: built from the leaves, and read back from blocks that others give.

The tree is the profile's (balanced, 1024 links), but its shape follows from the number of leaves, and the bytes under
each link from the leaves themselves. Where the leaves are the usual ones it is the same tree, block for block.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass

from citrate.core.errors import FormatError
from citrate.core.records import FileEntry
from citrate.registry import cid as cids
from citrate.registry import dag, dagpb
from citrate.registry.cid import DAG_PB, RAW
from citrate.registry.dag import CHUNK_BYTES, WIDTH, Dag, InnerNode
from citrate.registry.dagpb import Link
from citrate.registry.leaves import Leaves
from citrate.registry.tensor_headers import TENSORS_MAX

LEAVES_BESIDE_MAX = 2 * TENSORS_MAX + 2
"""How many leaves a file may have beyond one for each mebibyte: a header, tensors and what stands between them, each
with a last leaf that is not full."""


@dataclass(frozen=True)
class _Part:
    """A subtree: its root, the file bytes under it, and the bytes of all its blocks."""

    codec: int
    digest: bytes
    size_bytes: int
    tsize: int


def file_dag(leaves: Leaves) -> Dag:
    """Build the tree of a file."""
    if leaves.ends is None:
        return dag.file_dag(leaves.digests, leaves.size_bytes)
    nodes: list[InnerNode] = []
    level = [_Part(RAW, leaf.digest, leaf.length, leaf.length) for leaf in leaves]
    while len(level) > 1:
        level = [_parent(level[at : at + WIDTH], nodes) for at in range(0, len(level), WIDTH)]
    return Dag(level[0].codec, level[0].digest, level[0].tsize, tuple(nodes))


def _parent(below: list[_Part], nodes: list[InnerNode]) -> _Part:
    node = dag.inner_node(_encoded(below))
    nodes.append(node)
    tsize = len(node.block) + sum(part.tsize for part in below)
    return _Part(DAG_PB, node.digest, sum(part.size_bytes for part in below), tsize)


def _encoded(below: list[_Part]) -> bytes:
    links = [Link(cids.to_bytes(part.codec, part.digest), b"", part.tsize) for part in below]
    return dagpb.encode(links, dagpb.file_data([part.size_bytes for part in below]))


def is_possible(file: FileEntry) -> bool:
    """Whether a file's CID, size and SHA-256 can belong together, as far as can be said without its bytes."""
    codec, digest = cids.decode(file.cid)
    if file.tsize is not None:
        return codec == DAG_PB and file.tsize > file.size_bytes
    if file.size_bytes > CHUNK_BYTES:
        return codec == DAG_PB
    return codec == RAW and digest.hex() == file.sha256


def read_leaves(read: Callable[[str], bytes], file: FileEntry) -> Leaves:
    """All leaves of a file, from its inner nodes.

    Args:
        read: a block of at most 1 MiB by its CID, compared with it.
        file: its CID and size; where ``tsize`` is set, its leaves may have any length, else the tree must be the only
            one that the profile allows.

    Raises:
        FormatError: the blocks are no tree of that file that citrate writes: more leaves than a file of its size can
            have, empty or larger ones, another order or encoding. Nothing is taken up before it fits.
    """
    codec, digest = cids.decode(file.cid)
    if file.tsize is None:
        return _usual_leaves(read, digest, file.size_bytes)
    level = [_Part(codec, digest, file.size_bytes, file.tsize)]
    bound = dag.leaf_count(file.size_bytes) + LEAVES_BESIDE_MAX
    if codec == RAW:
        raise _refused(level[0])
    while level[0].codec == DAG_PB:
        below: list[_Part] = []
        for number, part in enumerate(level, 1):
            children = _children(read(cids.encode(DAG_PB, part.digest)), part)
            below += children
            full = len(children) == WIDTH or number == len(level)
            leaves = len(below) if below[0].codec == RAW else (len(below) - 1) * WIDTH + 1  # or more of them
            if not full or below[0].codec != children[0].codec or leaves > bound:
                raise _refused(part)
        if len(below) == 1:
            raise _refused(level[0])
        level = below
    ends, at = array("Q"), 0
    for part in level:
        at += part.size_bytes
        ends.append(at)
    return Leaves(file.size_bytes, b"".join(part.digest for part in level), ends).normal()


def _usual_leaves(read: Callable[[str], bytes], digest: bytes, size_bytes: int) -> Leaves:
    level = [(digest, size_bytes)]
    for height in range(dag.file_height(size_bytes), 0, -1):
        level = [
            child for node, size in level for child in dag.file_children(read(cids.encode(DAG_PB, node)), size, height)
        ]
    return Leaves(size_bytes, b"".join(leaf for leaf, _ in level))


def _children(block: bytes, part: _Part) -> list[_Part]:
    """The children of an inner node, which must have the bytes and blocks under it that its parent says."""
    node = dagpb.decode(block)
    sizes = dagpb.decode_unixfs(node.data).sizes
    if not 0 < len(sizes) == len(node.links) <= WIDTH:
        raise _refused(part)
    below = [_Part(*cids.from_bytes(link.cid), size, link.tsize) for link, size in zip(node.links, sizes, strict=True)]
    for child in below:
        is_leaf = child.codec == RAW
        if child.size_bytes == 0 or (is_leaf and not child.size_bytes == child.tsize <= CHUNK_BYTES):
            raise _refused(part)
    sums = sum(sizes), len(block) + sum(child.tsize for child in below)
    if sums != (part.size_bytes, part.tsize) or len({c.codec for c in below}) > 1 or _encoded(below) != block:
        raise _refused(part)
    return below


def _refused(part: _Part) -> FormatError:
    where = cids.encode(part.codec, part.digest)
    return FormatError(f"block {where} is no inner node of a {part.size_bytes}-byte part of a file that citrate writes")
