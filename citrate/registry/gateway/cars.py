"""CARs of a part of a DAG: the blocks that prove a path, and those that its end consists of."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from citrate.registry import car, reader
from citrate.registry.cid import Cid
from citrate.registry.gateway.request import CarWanted
from citrate.registry.paths import Entity, Found, Read


def stream(read: Read, found: Found, wanted: CarWanted) -> Iterator[bytes]:
    """A CAR whose root is where the path leads, beginning with the blocks on the way.

    Raises:
        NotFoundError: a block is not there.
        IntegrityError: a block is damaged.
    """
    yield car.header(found.cid)
    on_the_way = ((cid, read(cid)) for cid in found.via)
    seen: set[bytes] = set()
    for text, block in itertools.chain(on_the_way, _below(read, found, wanted)):
        cid = Cid.parse(text)
        if cid.is_identity or cid.multihash in seen:  # the CID says the block already; or it was sent
            continue
        if not wanted.duplicates:
            seen.add(cid.multihash)
        yield car.frame(text, block)


def _below(read: Read, found: Found, wanted: CarWanted) -> Iterable[tuple[str, bytes]]:
    if wanted.scope == "all":
        return car.walk(found.cid, read, duplicates=wanted.duplicates)
    if wanted.scope == "entity" and found.is_directory:
        return reader.directory_blocks(read, found.cid)
    if wanted.scope == "entity" and found.entity is Entity.FILE:
        start, stop = wanted.bytes.within(found.size_bytes) if wanted.bytes else (0, found.size_bytes)
        return ((cid, block) for cid, block, _ in reader.parts(read, found.cid, start, stop))
    return [(found.cid, read(found.cid))]
