"""CAR files (version 1): blocks in a row, each with its CID, under a header that names the root.

Source: https://ipld.io/specs/transport/car/carv1/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from citrate.registry import cid as cids
from citrate.registry import dagpb


def header(root: str) -> bytes:
    """The header of a CAR with one root: ``{"roots": [root], "version": 1}`` in DAG-CBOR."""
    link = b"\0" + cids.to_bytes(*cids.decode(root))
    body = b"\xa2\x65roots\x81\xd8\x2a\x58" + bytes((len(link),)) + link + b"\x67version\x01"
    return dagpb.varint(len(body)) + body


def frame(cid: str, block: bytes) -> bytes:
    """One block as it stands in a CAR."""
    binary = cids.to_bytes(*cids.decode(cid))
    return dagpb.varint(len(binary) + len(block)) + binary + block


def export(root: str, read: Callable[[str], bytes]) -> Iterator[bytes]:
    """Write a DAG depth first in the order of its links, each block once.

    Args:
        root: the CID to begin at.
        read: returns the verified block of a CID.
    """
    yield header(root)
    yield from (frame(cid, block) for cid, block in walk(root, read))


def walk(root: str, read: Callable[[str], bytes]) -> Iterator[tuple[str, bytes]]:
    """Every block of a DAG once, depth first in the order of its links."""
    seen: set[bytes] = set()
    ahead = [root]
    while ahead:
        cid = ahead.pop()
        codec, digest = cids.decode(cid)
        if digest in seen:
            continue
        seen.add(digest)
        block = read(cid)
        yield cid, block
        if codec == cids.DAG_PB:
            links = dagpb.decode(block).links
            ahead.extend(cids.encode(*cids.from_bytes(link.cid)) for link in reversed(links))
