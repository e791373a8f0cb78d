"""Blocks of any object: slices of plain files, nodes out of the index, pieces of packs.

They are found by their hash, whatever the codec they are asked for with, and compared with it every time.
"""

from __future__ import annotations

from collections.abc import Iterator

from citrate.core.errors import IntegrityError, NotFoundError
from citrate.registry import cid as cids
from citrate.registry.cid import Cid
from citrate.registry.store.checking import VERIFY_HINT
from citrate.registry.store.dags import DagShelf, read_piece
from citrate.registry.store.index import Index, LeafPlace
from citrate.registry.store.layout import Layout, disk_errors


class Blocks:
    """The blocks of one store."""

    def __init__(self, layout: Layout, index: Index, shelf: DagShelf) -> None:
        self._layout = layout
        self._index = index
        self._shelf = shelf

    def get(self, cid: str) -> bytes:
        """One block of any object, compared with its CID.

        Raises:
            FormatError: no CID.
            NotFoundError: no object has it.
            IntegrityError: every copy on disk differs.
        """
        wanted = Cid.parse(cid)
        if wanted.is_identity:
            return wanted.digest
        damaged = None
        with disk_errors(self._layout.root, cid):
            for copy in self._copies(wanted):
                if wanted.matches(copy):
                    return copy
                damaged = copy
        if damaged is not None:
            raise IntegrityError(
                f"block {cid} is damaged in the store",
                path=cid,
                expected=wanted.digest.hex(),
                actual=wanted.hash(damaged)[: len(wanted.digest)].hex(),
                hint=VERIFY_HINT,
            )
        raise NotFoundError(f"block {cid} is not in the store at {self._layout.root}")

    def _copies(self, wanted: Cid) -> Iterator[bytes]:
        """What stands wherever the block should be."""
        if wanted.hash_code == cids.SHA2_256:
            if wanted.codec != cids.DAG_PB:
                yield from map(self._read_leaf, self._index.leaf_places(wanted.digest))
            yield from (block for _, block in self._index.nodes(wanted.digest))
            if wanted.codec == cids.DAG_PB:
                yield from map(self._read_leaf, self._index.leaf_places(wanted.digest))
        yield from self._shelf.copies(wanted)

    def _read_leaf(self, place: LeafPlace) -> bytes:
        return read_piece(self._layout.object(place.object_cid) / place.path, place.offset, place.length)

    def owners(self, cid: str) -> list[str]:
        """The CIDs of the objects that a block belongs to, itself included if it is one.

        Raises:
            FormatError: no CID.
        """
        wanted = Cid.parse(cid)
        with disk_errors(self._layout.root, cid):
            found = self._shelf.owners(wanted)
            if wanted.hash_code == cids.SHA2_256:
                found += [place.object_cid for place in self._index.leaf_places(wanted.digest)]
                found += [owner for owner, _ in self._index.nodes(wanted.digest)]
            return found
