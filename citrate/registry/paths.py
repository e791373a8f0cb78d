"""Where a path leads: through folders, sharded folders, and the maps and lists of data blocks.

``Read`` returns the block of a CID, compared with it. Source: https://specs.ipfs.tech/http-gateways/path-gateway/.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from citrate.core.errors import FormatError, NotFoundError
from citrate.registry import cid as cids
from citrate.registry import dag, dagpb, ipld
from citrate.registry.cid import Cid
from citrate.registry.dagcbor import Ipld
from citrate.registry.dagpb import Kind

Read: TypeAlias = Callable[[str], bytes]

_SHARD_DEPTH_MAX = 8
_HEX = frozenset(b"0123456789ABCDEF")


class Entity(Enum):
    """What stands at the end of a path."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    DATA = "data"
    """A document of DAG-CBOR, DAG-JSON, CBOR or JSON."""
    NODE = "node"
    """A dag-pb block that is neither file nor folder."""


@dataclass(frozen=True)
class Found:
    """Where a path leads.

    Attributes:
        roots: the CID at each name of the path, the first and the last included.
        via: the CIDs of the blocks that were read on the way, in order, ``cid`` excluded.
        rest: the names that lead further inside the block ``cid`` itself, of a document.
    """

    cid: str
    entity: Entity
    size_bytes: int
    roots: tuple[str, ...]
    via: tuple[str, ...]
    rest: tuple[str, ...] = ()

    @property
    def is_directory(self) -> bool:
        return self.entity is Entity.DIRECTORY


def find(read: Read, root: str, path: str = "") -> Found:
    """Follow ``path`` (names between ``/``) from ``root``.

    Raises:
        NotFoundError: a name does not exist, or a block is not there.
        FormatError: a block is malformed, or of a codec that is not known here.
    """
    cid, roots, via = Cid.parse(root), [root], list[str]()
    names = [name for name in path.split("/") if name]
    while names:
        if cid.codec in (cids.DAG_CBOR, cids.DAG_JSON, cids.CBOR, cids.JSON):
            following, used = _inside(read, cid, names)
            if following is None:
                return Found(str(cid), Entity.DATA, len(read(str(cid))), tuple(roots), tuple(via), tuple(names))
            via.append(str(cid))
            roots.extend([str(cid)] * (used - 1))  # the names before the link's are in the document itself
        else:
            following, passed = _child(read, cid, names[0])
            via.extend(passed)
            used = 1
        cid, names = following, names[used:]
        roots.append(str(cid))
    entity, size = _entity(read, cid)
    return Found(str(cid), entity, size, tuple(roots), tuple(via))


def require_printable(found: Found, shown: str) -> None:
    """Refuse what has no bytes of its own.

    Raises:
        FormatError: a folder, a symbolic link, or a place inside a document.
    """
    if found.is_directory:
        raise FormatError(f"{shown} is a directory", hint="append the path of a file")
    if found.rest:
        raise FormatError(f"{shown} leads into a document", hint=f"citrate cat {found.roots[-1]} prints it whole")
    if found.entity is Entity.SYMLINK:
        raise FormatError(f"{shown} is a symbolic link", hint="name the file that it points to")


def _entity(read: Read, cid: Cid) -> tuple[Entity, int]:
    block = read(str(cid))
    if cid.codec != cids.DAG_PB:
        if cid.codec not in cids.CODECS:
            raise FormatError(f"{cid} has codec 0x{cid.codec:x}, which is not known here")
        return Entity.FILE if cid.codec == cids.RAW else Entity.DATA, len(block)
    try:
        record = dagpb.decode_unixfs(dagpb.decode(block).data)
    except FormatError:
        return Entity.NODE, len(block)
    if record.kind in (Kind.DIRECTORY, Kind.HAMT_SHARD):
        return Entity.DIRECTORY, 0
    if record.kind in (Kind.FILE, Kind.RAW):
        return Entity.FILE, record.size_bytes
    if record.kind == Kind.SYMLINK:
        return Entity.SYMLINK, len(record.data)
    return Entity.NODE, len(block)


def _inside(read: Read, cid: Cid, names: list[str]) -> tuple[Cid | None, int]:
    """The link that ``names`` lead to inside a document, and how many of them it took; None: they end inside it."""
    value: Ipld = ipld.decode(cid, read(str(cid)))
    for used, name in enumerate(names, start=1):
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and name.isascii() and int(name) < len(value):
            value = value[int(name)]
        else:
            raise NotFoundError(f"no {name!r} under {cid}")
        if isinstance(value, Cid):
            return value, used
    return None, len(names)


def _child(read: Read, cid: Cid, name: str) -> tuple[Cid, list[str]]:
    """The child ``name`` of a folder, and the blocks read to find it."""
    wanted, passed, top = name.encode(), list[str](), cid
    name_hash = dag.name_hash(wanted)
    for depth in range(_SHARD_DEPTH_MAX):
        if cid.codec != cids.DAG_PB:
            break
        node = dagpb.decode(read(str(cid)))
        passed.append(str(cid))
        kind, prefix = _folder_kind(node, name_hash[depth])
        if kind is None:
            break
        for link in node.links:
            if link.name == prefix + wanted:
                return Cid.decode(link.cid), passed
        below = [link for link in node.links if prefix and link.name == prefix]
        if not below:
            break
        cid = Cid.decode(below[0].cid)
    raise NotFoundError(f"no {name!r} under {top}")


def _folder_kind(node: dagpb.Node, place: int) -> tuple[Kind | None, bytes]:
    """What kind of folder a node is, and the prefix of a name with hash byte ``place`` in it; a node whose data is no
    UnixFS is one with names too."""
    try:
        record = dagpb.decode_unixfs(node.data)
    except FormatError:
        return Kind.DIRECTORY, b""
    if record.kind == Kind.HAMT_SHARD:
        return (Kind.HAMT_SHARD, b"%02X" % place) if record.fanout == dag.FANOUT else (None, b"")
    return (Kind.DIRECTORY, b"") if record.kind == Kind.DIRECTORY else (None, b"")


def is_shard_link(name: bytes) -> bool:
    """Whether a link of a HAMT shard leads to another shard, and not to an entry."""
    return len(name) == 2 and _HEX.issuperset(name)
