"""What a store holds, of both kinds: files and DAGs kept as blocks; when it was used, and what was found damaged."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from citrate.core.errors import NotFoundError
from citrate.registry.store.dags import DagShelf, StoredDag
from citrate.registry.store.index import Index
from citrate.registry.store.layout import Layout
from citrate.registry.store.pins import Pin, Pins

_USE_NOTED_EVERY_S = 3600


@dataclass(frozen=True)
class StoredObject:
    """An object of the store, as ``store ls`` shows it.

    Attributes:
        sha256: of the plain file or folder; empty for a DAG that is kept as blocks.
        size_bytes: of the files; of the blocks, where there are none.
        path: the plain file or the directory; the pack that holds the blocks.
        blocks: how many blocks a DAG has that is kept as blocks; 0 for plain files.
        whole: whether every block is here; only an import that asked for it leaves some out.
        pins: who needs it.
        added_s: when it was stored, in unix seconds.
        used_s: when it was last handed out, to the hour; ``added_s`` if never.
        damaged: whether it was found damaged, and not sound since.
    """

    cid: str
    sha256: str
    size_bytes: int
    path: Path
    pins: tuple[Pin, ...]
    added_s: int
    used_s: int
    damaged: bool = False
    blocks: int = 0
    whole: bool = True

    @property
    def pinned(self) -> bool:
        """Whether anybody needs it."""
        return bool(self.pins)

    @property
    def is_replaceable(self) -> bool:
        """Whether it may make way where room is asked for: nobody needs it, or it was merely pulled."""
        return all(pin.is_of_a_pull for pin in self.pins)


class Inventory:
    """Lists the objects of one store, and notes what happens to them."""

    def __init__(self, layout: Layout, index: Index, shelf: DagShelf, pins: Pins) -> None:
        self._layout = layout
        self._index = index
        self._shelf = shelf
        self._pins = pins

    def all(self) -> list[StoredObject]:
        """All objects, oldest first; those that are kept as blocks after those that are plain files."""
        pins = self._pins.all()
        return self._files("1", pins=pins) + [self._dag(found, pins) for found in self._shelf.ls()]

    def one(self, cid: str) -> StoredObject:
        """One object.

        Raises:
            NotFoundError: it is not in the store.
        """
        pins = {cid: self._pins.of(cid)}
        if (dag := self._shelf.get(cid)) is not None:
            return self._dag(dag, pins)
        for found in self._files("objects.cid = ?", cid, pins=pins):
            return found
        raise NotFoundError(f"{cid} is not in the store at {self._layout.root}", hint="see what is: citrate store ls")

    def size_of(self, cid: str) -> int:
        """The bytes of an object; 0 of what is none."""
        sizes = self._of_both("SELECT size_bytes FROM {} WHERE cid = ?", cid)
        return sizes[0][0] if sizes else 0

    def _files(self, where: str, *values: str, pins: dict[str, tuple[Pin, ...]]) -> list[StoredObject]:
        rows = self._index.read(
            "SELECT cid, sha256, size_bytes, CASE WHEN bare THEN "  # noqa: S608
            "(SELECT path FROM files WHERE object_id = objects.id) ELSE '' END, "
            f"added_s, coalesce(used_s, added_s), damaged_s IS NOT NULL FROM objects WHERE {where} ORDER BY id",
            *values,
            kinds="ssisiii",
        )
        return [
            StoredObject(
                cid, sha256, size, self._layout.object(cid) / path, pins.get(cid, ()), added, used, bool(damaged)
            )
            for cid, sha256, size, path, added, used, damaged in rows
        ]

    @staticmethod
    def _dag(found: StoredDag, pins: dict[str, tuple[Pin, ...]]) -> StoredObject:
        return StoredObject(
            found.cid, "", found.size_bytes, found.path, pins.get(found.cid, ()), found.added_s, found.used_s,
            found.damaged, found.blocks, found.whole,
        )  # fmt: skip

    def is_suspect(self, cid: str) -> bool:
        """Whether the object was found damaged, and not sound since."""
        return bool(self._of_both("SELECT 1 FROM {} WHERE cid = ? AND damaged_s IS NOT NULL", cid))

    def note_use(self, cid: str) -> None:
        """Note that the object was handed out, at most once an hour; where nothing can be written, nothing is."""
        now = int(time.time())
        ((used,),) = self._of_both("SELECT coalesce(used_s, 0) FROM {} WHERE cid = ?", cid) or [(now,)]
        if abs(now - used) >= _USE_NOTED_EVERY_S:
            self._note("used_s = ?", now, cid)

    def note_damage(self, cid: str) -> None:
        """Note that the object was found damaged: its receipts are not believed until it was read and found sound.

        Waits for other writers. Where nothing can be written, whoever reads it next finds out for himself.
        """
        if self.is_suspect(cid):
            return
        with contextlib.suppress(sqlite3.Error, OSError), self._index.writing() as connection:
            for statement in _statements("damaged_s = ?"):
                connection.execute(statement, (int(time.time()), cid))

    def note_soundness(self, cid: str) -> None:
        """Note that every byte of the object was read and is right."""
        if self.is_suspect(cid):
            self._note("damaged_s = NULL", cid)

    def _note(self, what: str, *values: str | int) -> None:
        self._index.note(*_statements(what), values=values)

    def _of_both(self, statement: str, cid: str) -> list[tuple[int]]:
        return [row for table in ("objects", "dags") for row in self._index.read(statement.format(table), cid)]


def _statements(what: str) -> list[str]:
    """The changes that note something of an object, of whichever kind it is."""
    return [f"UPDATE {table} SET {what} WHERE cid = ?" for table in ("objects", "dags")]  # noqa: S608
