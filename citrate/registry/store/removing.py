"""Objects leave the store: deleted, collected, set aside; and what nobody is at work on any more is swept."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Collection
from pathlib import Path

from citrate.core.errors import NotFoundError, NotPermittedError
from citrate.registry.store import collecting
from citrate.registry.store.dags import DagShelf
from citrate.registry.store.index import Index
from citrate.registry.store.inventory import Inventory, StoredObject
from citrate.registry.store.layout import Layout, is_no_room, remove_tree, try_lock
from citrate.registry.store.pins import Pins

DAMAGED_KEPT_S = 7 * 86400
"""How long an object that was found damaged and replaced is kept for whoever wants to know why."""
ROOM_TO_FORGET_BYTES = 1 << 17
"""What SQLite's files beside the index take when an object is forgotten: 32 KiB, and a few pages more."""


class Remover:
    """Removes from one store."""

    def __init__(self, layout: Layout, index: Index, shelf: DagShelf, inventory: Inventory, pins: Pins) -> None:
        self._layout = layout
        self._index = index
        self._shelf = shelf
        self._inventory = inventory
        self._pins = pins

    def remove(self, cid: str, *, pulled: bool = False) -> None:
        """Delete an object; ``pulled``: although pulls pinned it. See ``Store.remove``."""
        kept_as_blocks = bool(self._inventory.one(cid).blocks)
        with self._layout.lock(cid):
            self._pins.removable(cid, pulled=pulled)
            if kept_as_blocks:
                self._shelf.delete(cid, pulled=pulled)
            else:
                self._delete_files(cid, pulled=pulled)

    def _delete_files(self, cid: str, *, pulled: bool) -> None:
        """Forget an object and its pins in one step, then delete its files, which are nobody's from then on. On a full
        disk the files go first: to forget takes room, too."""
        try:
            self._forget(cid, pulled=pulled)
        except sqlite3.Error as error:
            gives = _size_of(self._layout.object(cid))
            if not is_no_room(error, self._layout.root) or gives < ROOM_TO_FORGET_BYTES:
                raise
            remove_tree(self._layout.object(cid))
            self._forget(cid, pulled=pulled)
        remove_tree(self._layout.object(cid))

    def _forget(self, cid: str, *, pulled: bool) -> None:
        with self._pins.ending(cid, pulled=pulled) as connection:
            self._index.forget(connection, cid)

    def set_aside(self, cid: str) -> None:
        """Move a damaged object to ``damaged/``; its pins stay."""
        with self._layout.lock(cid):
            self.move_aside(cid)

    def move_aside(self, cid: str) -> None:
        """The same for who holds the object's lock."""
        self._index.delete(cid)
        target = self._layout.damaged(cid)
        target.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self._layout.object(cid).rename(target)

    def collect(
        self, *, older_than_s: float | None = None, max_bytes: int | None = None, dry_run: bool = False
    ) -> list[StoredObject]:
        """Delete what nobody needs and sweep; see ``Store.gc``."""
        going = collecting.collectable(
            self._inventory.all(), time.time(), older_than_s=older_than_s, max_bytes=max_bytes
        )
        if dry_run:
            return going
        self._sweep()  # first: it makes room without asking the index for any
        gone = self._remove_all(going)
        self._sweep_locks()
        return gone

    def make_room(self, max_bytes: int, size_bytes: int, spared: Collection[str] = ()) -> list[StoredObject]:
        """Delete what was used least recently until ``size_bytes`` more fit into ``max_bytes``."""
        return self._remove_all(
            collecting.making_way(self._inventory.all(), time.time(), max_bytes, size_bytes, spared)
        )

    def _remove_all(self, going: list[StoredObject]) -> list[StoredObject]:
        """Remove objects, the largest first: on a full disk only they make room to forget the small ones."""
        gone = set[str]()
        for stored in sorted(going, key=lambda stored: -stored.size_bytes):
            with contextlib.suppress(NotPermittedError, NotFoundError):  # pinned or deleted meanwhile
                self.remove(stored.cid, pulled=stored.pinned)
                gone.add(stored.cid)
        return [stored for stored in going if stored.cid in gone]

    def leftover_bytes(self) -> int:
        """What lies beside the objects, in use or not; see ``Store.leftover_bytes``."""
        found = [path for name in ("partial", "staging", "damaged") for path in self._entries(name)]
        found += self._unknown()
        known = self._shelf.known_packs()
        found += [self._layout.pack(name) for name in self._layout.packs() if name not in known]
        return sum(map(_size_of, found))

    def _sweep(self) -> None:
        self._layout.sweep_partial()
        self._layout.sweep_staging()
        self._shelf.sweep()
        for folder in self._unknown():
            with self._layout.lock(folder.name):  # whose row is about to be written
                # an index that lost its row is no reason to lose what somebody needs: ``rebuilding``
                if not self._index.has(folder.name) and not self._pins.of(folder.name):
                    remove_tree(folder)
        for path in self._entries("damaged"):
            if path.lstat().st_ctime < time.time() - DAMAGED_KEPT_S:
                remove_tree(path)

    def _unknown(self) -> list[Path]:
        """The folders of no object: of processes that were killed before a row was written, or after it was deleted."""
        known = self._index.object_cids()
        return [folder for folder in self._layout.objects() if folder.name not in known]

    def _sweep_locks(self) -> None:
        """Remove the lock files of objects that are gone and that nobody holds."""
        for path in self._entries("locks"):
            name = path.name.removesuffix(".lock").removesuffix(".partial")
            if name != "packs" and not self._index.has(name):
                with try_lock(path) as ours:
                    if ours:
                        path.unlink(missing_ok=True)

    def _entries(self, name: str) -> list[Path]:
        folder = self._layout.root / name
        return list(folder.iterdir()) if folder.exists() else []


def _size_of(path: Path) -> int:
    """The bytes of a file or of all files below a folder; what vanishes meanwhile counts nothing."""
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(directory) / name).lstat().st_size
    with contextlib.suppress(OSError):
        total += 0 if path.is_dir() else path.lstat().st_size
    return total
