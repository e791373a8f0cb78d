"""CAR files (version 1), written: blocks in a row, each with its CID, under a header that names the root.

Source: https://ipld.io/specs/transport/car/carv1/. ``carfile`` reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from citrate.core.sink import Buffer, Progress
from citrate.registry import dagcbor, ipld
from citrate.registry.cid import Cid
from citrate.registry.varint import varint


def header(root: str) -> bytes:
    """The header of a CAR with one root."""
    return dagcbor.car_header([Cid.parse(root)])


def frame(cid: str, block: Buffer) -> bytes:
    """One block as it stands in a CAR."""
    binary = Cid.parse(cid).binary
    return varint(len(binary) + len(block)) + binary + block


def export(root: str, read: Callable[[str], bytes]) -> Iterator[bytes]:
    """Write a DAG depth first in the order of its links, each block once, byte for byte as ``ipfs dag export`` does.

    Args:
        root: the CID to begin at.
        read: returns the verified block of a CID.
    """
    yield header(root)
    yield from (frame(cid, block) for cid, block in walk(root, read))


def told(pieces: Iterator[bytes], total: int, progress: Progress | None) -> Iterator[bytes]:
    """The same pieces of a CAR; how far it is, is told with the stage ``export``.

    Args:
        pieces: a header, and then a block each.
        total: the object's bytes, of which a CAR has a few more; 0 where nobody knows.
        progress: told of it.
    """
    done = 0
    for piece in pieces:
        yield piece
        done += len(piece)
        if progress is not None:
            progress("export", min(done, total) if total else done, total)
    if progress is not None and total:
        progress("export", total, total)


def walk(root: str, read: Callable[[str], bytes], *, duplicates: bool = False) -> Iterator[tuple[str, bytes]]:
    """Every block of a DAG, depth first in the order of its links; once, or as often as it is linked to.

    Raises:
        FormatError: a block is malformed, or nobody here knows its codec's links.
    """
    seen: set[Cid] = set()
    ahead = [Cid.parse(root)]
    while ahead:
        cid = ahead.pop()
        if cid in seen:
            continue
        if not duplicates:
            seen.add(cid)
        block = read(str(cid))
        yield str(cid), block
        ahead.extend(reversed(ipld.links(cid, block)))
