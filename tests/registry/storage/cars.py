"""CARs of any kind, sound and broken, built by hand; and what it takes to import them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from citrate.registry import cid as cids
from citrate.registry import dagcbor, dagpb
from citrate.registry.cid import Cid
from citrate.registry.dagpb import Link
from citrate.registry.store import Store
from citrate.registry.store.importing import Imported, import_car
from citrate.registry.varint import varint


def section(cid: Cid, block: bytes) -> bytes:
    return varint(len(cid.binary) + len(block)) + cid.binary + block


@dataclass
class Dag:
    """Blocks by the order in which they were made."""

    blocks: list[tuple[Cid, bytes]] = field(default_factory=list)

    def put(self, codec: int, block: bytes, version: int = 1) -> Cid:
        cid = Cid.of(codec, block, version=version)
        self.blocks.append((cid, block))
        return cid

    def raw(self, data: bytes) -> Cid:
        return self.put(cids.RAW, data)

    def file(self, *pieces: bytes, version: int = 1) -> Cid:
        """A file of one leaf for each piece."""
        links = [Link(self.raw(piece).binary, b"", len(piece)) for piece in pieces]
        block = dagpb.encode(links, dagpb.file_data([len(piece) for piece in pieces]))
        return self.put(cids.DAG_PB, block, version)

    def folder(self, **entries: Cid) -> Cid:
        sizes = {cid: len(block) for cid, block in self.blocks}
        links = [Link(cid.binary, name.encode(), sizes[cid]) for name, cid in sorted(entries.items())]
        return self.put(cids.DAG_PB, dagpb.encode(links, dagpb.directory_data()))

    def symlink(self, target: bytes) -> Cid:
        record = b"\x08\x04\x12" + varint(len(target)) + target
        return self.put(cids.DAG_PB, dagpb.encode([], record))

    def json(self, document: object) -> Cid:
        return self.put(cids.DAG_JSON, json.dumps(document).encode())

    def car(self, *roots: Cid, without: Iterable[Cid] = ()) -> bytes:
        left_out = set(without)
        body = b"".join(section(cid, block) for cid, block in reversed(self.blocks) if cid not in left_out)
        return dagcbor.car_header(list(roots)) + body


def version_2(car: bytes) -> bytes:
    """A CAR of version 2 around one of version 1, with room before it and an index that nobody reads after it."""
    start = 11 + 40 + 7
    header = bytes(16) + start.to_bytes(8, "little") + len(car).to_bytes(8, "little") + bytes(8)
    return bytes.fromhex("0aa16776657273696f6e02") + header + bytes(7) + car + b"an index"


def take(store: Store, data: bytes, *, partial: bool = False) -> list[Imported]:
    return import_car(store, io.BytesIO(data), "test", partial=partial)


def assert_untouched(store: Store) -> None:
    """Nothing was kept, and nothing lies about."""
    assert store.ls() == []
    for folder in ("packs", "objects", "staging"):
        assert not (store.root / folder).exists() or list((store.root / folder).iterdir()) == []
