"""Blocks of any object: slices of plain files, nodes out of the index, pieces of packs.

They are found by their hash, whatever the codec they are asked for with, and compared with it every time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from citrate.core.errors import IntegrityError, NotFoundError
from citrate.registry import cid as cids
from citrate.registry.cid import Cid
from citrate.registry.store.checking import VERIFY_HINT
from citrate.registry.store.dags import DagShelf, read_piece
from citrate.registry.store.index import Index, LeafPlace
from citrate.registry.store.layout import Layout, disk_errors


class Blocks:
    """The blocks of one store. ``note_damage`` is told of the objects that a damaged block was found in."""

    def __init__(self, layout: Layout, index: Index, shelf: DagShelf, note_damage: Callable[[str], None]) -> None:
        self._layout = layout
        self._index = index
        self._shelf = shelf
        self._note_damage = note_damage

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
            for owners, copy in self._copies(wanted):
                if wanted.matches(copy):
                    return copy
                damaged = copy
                for owner in owners:
                    self._note_damage(owner)
        if damaged is not None and self.owners(cid):  # else it was removed while it was read
            raise IntegrityError(
                f"block {cid} is damaged in the store",
                path=cid,
                expected=wanted.digest.hex(),
                actual=wanted.hash(damaged)[: len(wanted.digest)].hex(),
                hint=VERIFY_HINT,
            )
        raise NotFoundError(f"block {cid} is not in the store at {self._layout.root}")

    def _copies(self, wanted: Cid) -> Iterator[tuple[list[str], bytes]]:
        """What stands wherever the block should be, and the objects that this belongs to."""
        if wanted.hash_code == cids.SHA2_256:
            if wanted.codec != cids.DAG_PB:
                yield from map(self._read_leaf, self._index.leaf_places(wanted.digest))
            yield from (([owner], block) for owner, block in self._index.nodes(wanted.digest))
            if wanted.codec == cids.DAG_PB:
                yield from map(self._read_leaf, self._index.leaf_places(wanted.digest))
        for copy in self._shelf.copies(wanted):
            yield self._shelf.owners(wanted), copy

    def _read_leaf(self, place: LeafPlace) -> tuple[list[str], bytes]:
        path = self._layout.object(place.object_cid) / place.path
        return [place.object_cid], read_piece(path, place.offset, place.length)

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
