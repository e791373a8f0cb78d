"""Objects are looked at before they are handed out, and all of them when asked: what is damaged is noted, and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from citrate.core.errors import CitrateError, IntegrityError, NotFoundError, StoreError
from citrate.core.records import Artifact
from citrate.core.sink import Progress
from citrate.registry import unixfs
from citrate.registry.store.checking import Checker, index_damages
from citrate.registry.store.dags import DagShelf
from citrate.registry.store.index import Index
from citrate.registry.store.inventory import Inventory, StoredObject
from citrate.registry.store.layout import Layout, disk_errors
from citrate.registry.store.pins import Pins


@dataclass(frozen=True)
class Damage:
    """What is wrong with an object; ``cid`` is empty where it is the index."""

    cid: str
    error: CitrateError


class Examiner:
    """Examines the objects of one store."""

    def __init__(self, layout: Layout, index: Index, shelf: DagShelf, inventory: Inventory, pins: Pins) -> None:
        self._layout = layout
        self._index = index
        self._shelf = shelf
        self._inventory = inventory
        self._pins = pins
        self._checker = Checker(layout, index)

    def check(self, artifact: Artifact, progress: Progress | None = None) -> None:
        """Check the files of an object, before it is handed out.

        Raises:
            IntegrityError: a file differs, is missing, or stands there in addition.
        """
        suspect = self._inventory.is_suspect(artifact.cid)
        try:
            self._checker.check(artifact, trust_receipts=not suspect, progress=progress)
        except IntegrityError:
            self._inventory.note_damage(artifact.cid)
            raise
        if suspect:
            self._inventory.note_soundness(artifact.cid)

    def damages(self, progress: Progress | None) -> list[Damage]:
        """Read and hash every byte of every object, and compare the index with what there is."""
        with disk_errors(self._layout.root):
            damages = [Damage("", error) for error in index_damages(self._layout, self._index, self._pins)]
            objects = self._inventory.all()
        counter = unixfs.Counter("verify", sum(stored.size_bytes for stored in objects), progress)
        for stored in objects:
            found = [Damage(stored.cid, error) for error in self._damages_of(stored, counter.add)]
            with disk_errors(self._layout.root, stored.cid):
                note = self._inventory.note_damage if found else self._inventory.note_soundness
                note(stored.cid)
            damages += found
        damaged = {found.cid for found in damages}
        if "" not in damaged:  # what the index says can be believed, and is worth a second record
            damages += self._renewed([stored for stored in objects if stored.cid not in damaged])
        return damages

    def _renewed(self, sound: list[StoredObject]) -> list[Damage]:
        """Write the second records of sound objects anew where they are gone; returns those that cannot be written."""
        damages = []
        for stored in sound:
            try:
                with disk_errors(self._layout.root, stored.cid):
                    if stored.pinned:
                        self._pins.renew(stored.cid)
                    if stored.blocks:
                        self._shelf.renew_list(stored.path.name)
            except StoreError as error:
                damages.append(Damage(stored.cid, error))
        return damages

    def _damages_of(self, stored: StoredObject, count: Callable[[int], None]) -> list[CitrateError]:
        try:
            with disk_errors(self._layout.root, stored.cid):
                if not stored.blocks:
                    return list(self._checker.damages(self._artifact(stored.cid), count))
                found = list(self._shelf.damages(stored.cid))
                count(stored.size_bytes)
                return found
        except CitrateError as error:  # of one object; the others are looked at all the same
            return [error]

    def _artifact(self, cid: str) -> Artifact:
        if (artifact := self._index.artifact(cid)) is None:
            raise NotFoundError(f"{cid} went while the store was verified", hint="citrate store verify, again")
        return artifact
