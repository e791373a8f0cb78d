"""DAGs that are kept as blocks: whatever is no plain file or folder of citrate's own profile.

Their blocks lie one after the other in packs, one file for each import; the index knows where each begins. A DAG exists
from the moment its row is committed, which is after its pack is in place and durable; a pack without a row is the trace
of a killed process. Blocks are found by their hash, whatever the codec they are asked for with, as on every IPFS node.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from citrate.core.errors import CitrateError, IntegrityError
from citrate.registry.atomic import make_folder, sync_directory
from citrate.registry.cid import Cid
from citrate.registry.store import pack_lists
from citrate.registry.store.index import Index
from citrate.registry.store.layout import Layout, is_no_room
from citrate.registry.store.pack_lists import PackList
from citrate.registry.store.pins import Pins


@dataclass(frozen=True)
class StoredDag:
    """A DAG of the store. ``size_bytes``: of its blocks. ``whole``: every block that it links to is here.

    ``path``: its pack. The rest as of ``inventory.StoredObject``.
    """

    cid: str
    size_bytes: int
    blocks: int
    whole: bool
    path: Path
    added_s: int
    used_s: int
    damaged: bool


@dataclass(frozen=True)
class NewDag:
    """A DAG about to be recorded: ``number`` is its root's in the scratch database that knows its blocks."""

    number: int
    cid: str
    size_bytes: int
    blocks: int
    whole: bool


@dataclass(frozen=True)
class _Place:
    """Where a block should lie."""

    block: Cid
    pack: Path
    offset: int
    length: int

    def holds(self, data: bytes) -> bool:
        """Whether these bytes are the block."""
        return len(data) == self.length and self.block.matches(data)

    def read(self) -> bytes:
        """What stands there."""
        return read_piece(self.pack, self.offset, self.length)

    def write(self, data: bytes) -> None:
        """Put the block there, durably."""
        make_folder(self.pack.parent)
        if self.pack.exists():
            self.pack.chmod(0o644)
        descriptor = os.open(self.pack, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            written = 0
            while written < len(data):  # a disk that is filling up takes a part
                written += os.pwrite(descriptor, memoryview(data)[written:], self.offset + written)
            os.fchmod(descriptor, 0o444)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_directory(self.pack.parent)  # of a pack that was gone


class DagShelf:
    """The DAGs of one store."""

    def __init__(self, layout: Layout, index: Index, pins: Pins) -> None:
        self._layout = layout
        self._index = index
        self._pins = pins

    def ls(self) -> list[StoredDag]:
        """All DAGs, oldest first."""
        return self._dags("1 ORDER BY dags.id")

    def get(self, cid: str) -> StoredDag | None:
        """The DAG with this root."""
        return next(iter(self._dags("cid = ?", cid)), None)

    def _dags(self, where: str, *values: str) -> list[StoredDag]:
        rows = self._index.read(
            "SELECT cid, size_bytes, blocks, whole, name, added_s, coalesce(used_s, added_s), damaged_s IS NOT NULL "  # noqa: S608
            f"FROM dags JOIN packs ON packs.id = pack_id WHERE {where}",
            *values,
            kinds="siiisiii",
        )
        return [
            StoredDag(cid, size, count, bool(whole), self._layout.pack(name), added, used, bool(damaged))
            for cid, size, count, whole, name, added, used, damaged in rows
        ]

    def owners(self, cid: Cid) -> list[str]:
        """The roots of the DAGs that a block belongs to."""
        rows = self._index.read(
            "SELECT dags.cid FROM blocks JOIN dags ON dags.id = dag_id WHERE hash = ?", cid.multihash
        )
        return [root for (root,) in rows]

    def copies(self, cid: Cid) -> Iterator[bytes]:
        """What stands wherever the block should be."""
        rows = self._index.read(
            "SELECT DISTINCT name, offset, blocks.length FROM blocks JOIN dags ON dags.id = dag_id "
            "JOIN packs ON packs.id = pack_id WHERE hash = ?",
            cid.multihash,
            kinds="sii",
        )
        for name, offset, length in rows:
            yield read_piece(self._layout.pack(name), offset, length)

    def damages(self, cid: str) -> Iterator[CitrateError]:
        """Read and hash every block of a DAG; yields what is wrong."""
        for place in self._places(cid):
            data, block = place.read(), place.block
            if not place.holds(data):
                yield IntegrityError(
                    f"a block of {cid} is damaged in {place.pack}",
                    path=str(block), expected=block.digest.hex(), actual=block.hash(data)[: len(block.digest)].hex(),
                    hint="citrate store verify --repair, or import its CAR again: citrate store import CAR",
                )  # fmt: skip

    def _places(self, cid: str, block: Cid | None = None) -> list[_Place]:
        """Where the blocks of a DAG should lie, or one of them."""
        one, which = ("", ()) if block is None else ("AND hash = ?", (block.multihash,))
        rows = self._index.read(
            "SELECT hash, name, offset, blocks.length FROM blocks JOIN dags ON dags.id = dag_id "  # noqa: S608
            f"JOIN packs ON packs.id = pack_id WHERE dags.cid = ? {one} ORDER BY offset",
            cid,
            *which,
            kinds="bsii",
        )
        # the codec plays no part in hashing; the raw one names any multihash
        return [
            _Place(Cid.decode(b"\x01\x55" + multihash), self._layout.pack(name), offset, length)
            for multihash, name, offset, length in rows
        ]

    def insert(self, pack: str, dags: list[NewDag], scratch: Path, reason: str) -> None:
        """Record DAGs whose pack is in place; from now on they exist, pinned for ``reason`` (if it is not empty).

        Args:
            pack: the pack's name.
            dags: what to record; a DAG that stands under the same root is replaced.
            scratch: a database with the tables ``blocks(hash, offset, length)`` and ``reached(number, hash)``.
            reason: who needs them.
        """
        with self._index.writing(attached=scratch) as connection:
            pack_id = connection.execute("INSERT INTO packs(name) VALUES(?)", (pack,)).lastrowid
            for dag in dags:
                connection.execute("DELETE FROM dags WHERE cid = ?", (dag.cid,))
                dag_id = connection.execute(
                    "INSERT INTO dags(cid, size_bytes, blocks, whole, pack_id, added_s) VALUES(?, ?, ?, ?, ?, ?)",
                    (dag.cid, dag.size_bytes, dag.blocks, dag.whole, pack_id, int(time.time())),
                ).lastrowid
                connection.execute(
                    "INSERT INTO main.blocks SELECT hash, ?, offset, length FROM scratch.reached "
                    "JOIN scratch.blocks USING(hash) WHERE number = ?",
                    (dag_id, dag.number),
                )
                if reason:
                    self._pins.insert(connection, dag.cid, reason)
            connection.execute(FORGET_PACKS)
            self._write_list(pack, connection)
        for dag in dags if reason else ():
            self._pins.note(dag.cid)

    def _write_list(self, pack: str, connection: sqlite3.Connection) -> None:
        """Note beside the index which blocks the pack has, and under which roots."""
        roots = connection.execute(_ROOTS_OF_A_PACK, (pack,))
        rows = connection.execute("SELECT hash, offset, length FROM scratch.blocks ORDER BY offset")
        pack_lists.write(self._layout.list_of(pack), (cid for (cid,) in roots), rows)

    def renew_list(self, pack: str) -> bool:
        """Write the list beside a pack anew if it lacks what the index has; says whether it did. What it has besides
        stays: the index may be what is wrong."""
        roots = self._index.read(_ROOTS_OF_A_PACK, pack, kinds="s")
        rows = self._index.read(
            "SELECT hash, offset, blocks.length FROM blocks JOIN dags ON dags.id = dag_id "
            "JOIN packs ON packs.id = pack_id WHERE name = ?",
            pack,
            kinds="bii",
        )
        known = PackList(frozenset(cid for (cid,) in roots), frozenset((name, at, size) for name, at, size in rows))
        path = self._layout.list_of(pack)
        if pack_lists.tells(path, known):
            return False
        with self._layout.lock("packs"):
            pack_lists.write_all(path, known | pack_lists.read(path))
        return True

    def mend(self, cid: str, fetch: Callable[[str], bytes]) -> None:
        """Write what ``fetch`` gives over the damaged blocks of a DAG; a pack that is gone begins anew.

        Nobody waits for the store while a block is fetched. One that has moved, or that others mended, is left alone.
        """
        for place in self._places(cid):
            if place.holds(place.read()):
                continue
            block = fetch(str(place.block))
            if not place.holds(block):
                raise IntegrityError(
                    f"another block came for {place.block}",
                    path=str(place.block), expected=place.block.digest.hex(), actual="another",
                )  # fmt: skip
            with self._layout.lock("packs"):
                if place in self._places(cid, place.block) and not place.holds(place.read()):
                    place.write(block)

    def delete(self, cid: str, *, pulled: bool) -> None:
        """Forget a DAG and its pins in one step, and delete the packs that nobody needs any more; see ``Pins.ending``.

        On a full disk a pack that no other DAG lies in goes first: to forget takes room, too.
        """
        try:
            self._forget(cid, pulled=pulled)
        except sqlite3.Error as error:
            dag = self.get(cid)
            if dag is None or not is_no_room(error, self._layout.root):
                raise
            if [other.cid for other in self._dags("name = ?", dag.path.name)] != [cid]:
                raise
            dag.path.unlink(missing_ok=True)
            self._forget(cid, pulled=pulled)
        self.sweep()

    def _forget(self, cid: str, *, pulled: bool) -> None:
        with self._pins.ending(cid, pulled=pulled) as connection:
            connection.execute("DELETE FROM dags WHERE cid = ?", (cid,))
            connection.execute(FORGET_PACKS)

    def known_packs(self) -> frozenset[str]:
        """The names of the packs that blocks lie in."""
        return frozenset(name for (name,) in self._index.read("SELECT name FROM packs", kinds="s"))

    def _unknown(self) -> set[str]:
        return {*self._layout.packs(), *self._layout.lists()} - self.known_packs()

    def forgotten(self, unknown: Iterable[str]) -> set[str]:
        """Those packs that the index does not know although somebody needs a DAG that only they have."""
        needed = {cid for cid in self._pins.all() if self.get(cid) is None}
        return {name for name in unknown if needed.intersection(self._layout.roots_of(name))}

    def take_back(self, name: str, path: Path) -> None:
        """Move a pack to ``path``, if it is in place and was not recorded: who put it there failed, or was killed."""
        with self._layout.lock("packs"):
            pack = self._layout.pack(name)
            if pack.is_file() and name not in self.known_packs():
                self._layout.list_of(name).unlink(missing_ok=True)
                pack.rename(path)

    def sweep(self) -> None:
        """Delete every pack, and list of one, that the index does not know, but not what is being put in place."""
        if not self._unknown():
            return
        with self._layout.lock("packs"):
            unknown = self._unknown()
            for name in unknown - self.forgotten(unknown):
                self._layout.pack(name).unlink(missing_ok=True)
                self._layout.list_of(name).unlink(missing_ok=True)


_ROOTS_OF_A_PACK = "SELECT cid FROM dags JOIN packs ON packs.id = pack_id WHERE name = ?"
FORGET_PACKS = "DELETE FROM packs WHERE id NOT IN (SELECT pack_id FROM dags)"
"""Packs that no DAG lies in are nobody's: the next ``sweep`` deletes them."""


def read_piece(path: Path, offset: int, length: int) -> bytes:
    """What stands at a place of a file; a file that cannot be opened is damage like any other."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(descriptor, length, offset)
    finally:
        os.close(descriptor)
