"""The store's index: which objects there are, and which file holds which leaf.

An object exists from the moment its row is committed, which is after its files are in place and durable; a folder
without a row is the trace of a killed process.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from citrate.core.records import Artifact, FileEntry
from citrate.registry.cid import DIGEST_BYTES
from citrate.registry.dag import CHUNK_BYTES, InnerNode
from citrate.registry.leaves import Leaves
from citrate.registry.store.database import Database


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a file's inode looked like when its bytes were last hashed. While it still looks so, they were not
    written to, and need not be hashed again."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Receipt:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    @classmethod
    def parse(cls, text: str) -> Receipt:
        """Read a receipt; one that is none fits no file."""
        try:
            return cls(*map(int, text.split()))
        except (TypeError, ValueError, AttributeError):
            return cls(0, 0, 0, 0, 0)

    def __str__(self) -> str:
        return f"{self.device} {self.inode} {self.size_bytes} {self.mtime_ns} {self.ctime_ns}"


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file that is complete on disk: its entry, its leaves, its inner blocks, its receipt."""

    entry: FileEntry
    leaves: Leaves
    nodes: tuple[InnerNode, ...]
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """A file of an object, as the index knows it."""

    id: int
    object_cid: str
    entry: FileEntry
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class LeafPlace:
    """Where a leaf's bytes lie."""

    object_cid: str
    path: str
    offset: int
    length: int


def _file_row(file: StagedFile) -> tuple[str | int | None, ...]:
    entry = file.entry
    return entry.path, entry.size_bytes, entry.sha256, entry.cid, str(file.receipt), entry.tsize


def _leaf_rows(file_id: int, leaves: Leaves) -> Iterator[tuple[bytes | int | None, ...]]:
    """Rows of ``leaves``; what stands where it usually does needs no place."""
    if leaves.ends is None:
        for position, at in enumerate(range(0, len(leaves.digests), DIGEST_BYTES)):
            yield leaves.digests[at : at + DIGEST_BYTES], file_id, position, None, None
        return
    for leaf in leaves:
        yield leaf.digest, file_id, leaf.number, leaf.offset, leaf.length


class Index(Database):
    """The objects of one store, their files, leaves and inner blocks."""

    def insert(self, artifact: Artifact, files: Iterable[StagedFile], nodes: Iterable[InnerNode]) -> None:
        """Record a complete object; from now on it exists. ``nodes``: the blocks of its folders."""
        with self.writing() as connection:
            cursor = connection.execute(
                "INSERT INTO objects(cid, sha256, size_bytes, bare, added_s) VALUES(?, ?, ?, ?, ?)",
                (artifact.cid, artifact.sha256, artifact.size_bytes, artifact.bare, int(time.time())),
            )
            object_id = cursor.lastrowid
            (first,) = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM files").fetchone()
            numbered = list(enumerate(files, first))
            connection.executemany(
                "INSERT INTO files(id, object_id, path, size_bytes, sha256, cid, receipt, tsize) "
                "VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
                ((number, object_id, *_file_row(file)) for number, file in numbered),
            )
            connection.executemany(
                "INSERT INTO leaves(digest, file_id, position, offset, length) VALUES(?, ?, ?, ?, ?)",
                (row for number, file in numbered for row in _leaf_rows(number, file.leaves)),
            )
            blocks = itertools.chain(nodes, *(file.nodes for _, file in numbered))
            connection.executemany(
                "INSERT OR IGNORE INTO nodes VALUES(?, ?, ?)", ((node.digest, object_id, node.block) for node in blocks)
            )

    def delete(self, cid: str) -> None:
        """Forget an object; from now on it does not exist. Its pins stay."""
        with self.writing() as connection:
            self.forget(connection, cid)

    @staticmethod
    def forget(connection: sqlite3.Connection, cid: str) -> None:
        """The same within a transaction that does more."""
        connection.execute("DELETE FROM objects WHERE cid = ?", (cid,))

    def has(self, cid: str) -> bool:
        return bool(self.read("SELECT 1 FROM objects WHERE cid = ?", cid))

    def object_cids(self) -> frozenset[str]:
        """The CIDs of all objects that are kept as files."""
        return frozenset(cid for (cid,) in self.read("SELECT cid FROM objects", kinds="s"))

    def artifact(self, cid: str) -> Artifact | None:
        """An object with its files, or None."""
        rows = self.read("SELECT sha256, size_bytes, bare FROM objects WHERE cid = ?", cid, kinds="sii")
        if not rows:
            return None
        files = sorted((file.entry for file in self.files(cid)), key=lambda entry: entry.path.encode())
        sha256, size, bare = rows[0]
        return Artifact(cid, sha256, size, tuple(files), bool(bare))

    def files(self, cid: str) -> list[IndexedFile]:
        """The files of an object."""
        return self._files("objects.cid = ?", cid)

    def files_with_cid(self, cid: str) -> list[IndexedFile]:
        """The files, of any object, whose own CID this is."""
        return self._files("files.cid = ?", cid)

    def _files(self, where: str, value: str) -> list[IndexedFile]:
        rows = self.read(
            "SELECT files.id, objects.cid, path, files.size_bytes, files.sha256, files.cid, tsize, receipt "  # noqa: S608
            f"FROM files JOIN objects ON objects.id = object_id WHERE {where} ORDER BY files.id",
            value,
            kinds="ississIs",
        )
        return [
            IndexedFile(number, owner, FileEntry(path, size, sha256, cid, tsize), Receipt.parse(receipt))
            for number, owner, path, size, sha256, cid, tsize, receipt in rows
        ]

    def leaves(self, file: IndexedFile) -> Leaves:
        """A file's leaves."""
        rows = self.read(
            "SELECT digest, offset + length FROM leaves WHERE file_id = ? ORDER BY position", file.id, kinds="bI"
        )
        usual = any(end is None for _, end in rows)
        ends = None if usual else array("Q", (end for _, end in rows))
        return Leaves(file.entry.size_bytes, b"".join(digest for digest, _ in rows), ends)

    def set_receipt(self, file_id: int, receipt: Receipt) -> None:
        """Note that the file was hashed again and is unchanged."""
        self.note("UPDATE files SET receipt = ? WHERE id = ?", values=(str(receipt), file_id))

    def leaf_places(self, digest: bytes) -> list[LeafPlace]:
        """Where a leaf lies, at most once for each object."""
        rows = self.read(
            "SELECT objects.cid, path, coalesce(offset, position * ?), "
            "coalesce(length, min(?, files.size_bytes - position * ?)), min(position) "
            "FROM leaves JOIN files ON files.id = file_id "
            "JOIN objects ON objects.id = object_id WHERE digest = ? GROUP BY objects.cid",
            CHUNK_BYTES, CHUNK_BYTES, CHUNK_BYTES, digest,
        )  # fmt: skip
        return [LeafPlace(owner, path, offset, length) for owner, path, offset, length, _ in rows]

    def nodes_of(self, cid: str) -> list[tuple[bytes, bytes]]:
        """The dag-pb blocks of an object, each with its digest."""
        return self.read(
            "SELECT digest, block FROM nodes JOIN objects ON objects.id = object_id WHERE objects.cid = ?", cid
        )

    def nodes(self, digest: bytes) -> list[tuple[str, bytes]]:
        """The dag-pb blocks with this digest, each with the object it belongs to."""
        return self.read(
            "SELECT objects.cid, block FROM nodes JOIN objects ON objects.id = object_id WHERE digest = ?", digest
        )
