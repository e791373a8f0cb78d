"""The store's index: which objects there are, which file holds which leaf, and who needs what.

SQLite in WAL mode, so that readers never wait for a writer. An object exists from the moment its row is committed,
which is after its files are in place and durable; a folder without a row is the trace of a killed process.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import threading
import time
import urllib.parse
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any

from citrate.core.errors import StoreError
from citrate.core.records import Artifact, FileEntry
from citrate.registry.cid import DIGEST_BYTES
from citrate.registry.dag import CHUNK_BYTES, InnerNode
from citrate.registry.leaves import Leaves
from citrate.registry.store.layout import file_lock

_VERSION = 3
_PATIENCE_S = 60
_KINDS: dict[str, type | UnionType] = {"s": str, "i": int, "b": bytes, "S": str | None, "I": int | None}
REINDEX_HINT = "citrate store reindex builds it anew from the objects' files"
_SCHEMA_1 = """
CREATE TABLE objects(
    id INTEGER PRIMARY KEY, cid TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL, size_bytes INTEGER NOT NULL,
    bare INTEGER NOT NULL, added_s INTEGER NOT NULL);
CREATE TABLE files(
    id INTEGER PRIMARY KEY, object_id INTEGER NOT NULL REFERENCES objects ON DELETE CASCADE, path TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, cid TEXT NOT NULL, receipt TEXT NOT NULL,
    UNIQUE(object_id, path));
CREATE INDEX files_by_cid ON files(cid);
CREATE TABLE leaves(
    digest BLOB NOT NULL, file_id INTEGER NOT NULL REFERENCES files ON DELETE CASCADE, position INTEGER NOT NULL,
    PRIMARY KEY(digest, file_id, position)) WITHOUT ROWID;
CREATE INDEX leaves_by_file ON leaves(file_id);
CREATE TABLE nodes(
    digest BLOB NOT NULL, object_id INTEGER NOT NULL REFERENCES objects ON DELETE CASCADE, block BLOB NOT NULL,
    PRIMARY KEY(digest, object_id)) WITHOUT ROWID;
CREATE INDEX nodes_by_object ON nodes(object_id);
CREATE TABLE pins(cid TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY(cid, reason)) WITHOUT ROWID;
"""
_SCHEMA_2 = """
CREATE TABLE packs(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE dags(
    id INTEGER PRIMARY KEY, cid TEXT NOT NULL UNIQUE, size_bytes INTEGER NOT NULL, blocks INTEGER NOT NULL,
    whole INTEGER NOT NULL, pack_id INTEGER NOT NULL REFERENCES packs, added_s INTEGER NOT NULL);
CREATE TABLE blocks(
    hash BLOB NOT NULL, dag_id INTEGER NOT NULL REFERENCES dags ON DELETE CASCADE, offset INTEGER NOT NULL,
    length INTEGER NOT NULL, PRIMARY KEY(hash, dag_id)) WITHOUT ROWID;
CREATE INDEX blocks_by_dag ON blocks(dag_id);
"""
_SCHEMA_3 = """
ALTER TABLE files ADD COLUMN tsize INTEGER;
ALTER TABLE leaves ADD COLUMN offset INTEGER;
ALTER TABLE leaves ADD COLUMN length INTEGER;
ALTER TABLE objects ADD COLUMN used_s INTEGER;
ALTER TABLE dags ADD COLUMN used_s INTEGER;
ALTER TABLE objects ADD COLUMN damaged_s INTEGER;
ALTER TABLE dags ADD COLUMN damaged_s INTEGER;
ALTER TABLE pins ADD COLUMN since_s INTEGER;
"""  # a leaf without an offset is one of the usual: 1 MiB at its position's place
_STEPS = (_SCHEMA_1, _SCHEMA_2, _SCHEMA_3)
"""What each version of the index added; an older index is brought up step by step when it is opened."""


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


class Index:
    """The index file of one store. Every thread has its own connection."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection; a new one where another file took the index's place (``rebuilding``)."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        there = self._identity()
        if connection is None or self._local.identity != there:
            if connection is not None:
                connection.close()
                self._local.connection = None
            if there is None:
                self._require_nothing_lost()
            self._local.connection = connection = self._open()
            self._local.identity = self._identity()
        return connection

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _require_nothing_lost(self) -> None:
        """Refuse to begin anew where there are objects: without their rows they would count as traces of a kill."""
        for name in ("objects", "packs"):
            folder = self._path.with_name(name)
            if folder.exists() and any(folder.iterdir()):
                raise StoreError(f"the index of the store at {self._path.parent} is gone", hint=REINDEX_HINT)

    def _open(self, *, anew: bool = False) -> sqlite3.Connection:
        connection = self._connect()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0 and not anew:
            self._require_nothing_lost()
        if version < _VERSION:
            with file_lock(self._path.with_name("index.lock")):  # switching to WAL does not wait for others by itself
                self._create(connection)
        elif version > _VERSION:
            raise StoreError(
                f"the store's index has format {version}, this citrate knows {_VERSION}", hint="use a newer citrate"
            )
        return connection

    def _connect(self) -> sqlite3.Connection:
        """Open the file; where it can only be read, and nobody is writing to it, without the files that a reader would
        otherwise have to make beside it."""
        connection = sqlite3.connect(self._path, timeout=_PATIENCE_S, isolation_level=None)
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except UnicodeDecodeError as error:
            connection.close()
            raise sqlite3.DatabaseError("a name in it is none") from error
        except sqlite3.OperationalError:
            connection.close()
            log = self._path.with_name(f"{self._path.name}-wal")
            if os.access(self._path.parent, os.W_OK) or (log.exists() and log.stat().st_size):
                raise
            uri = f"file:{urllib.parse.quote(str(self._path))}?immutable=1"
            connection = sqlite3.connect(uri, uri=True, isolation_level=None)
        return connection

    @staticmethod
    def _create(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for step in _STEPS[version:]:  # none if another process was faster
            for statement in step.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")

    def create(self, *, anew: bool = False) -> None:
        """See that there is an index. It comes before the first object: a store with objects and no index lost it;
        ``anew``: it is being built anew."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if anew:
            self._open(anew=True).close()
        self._connection()

    def close(self) -> None:
        """Close this thread's connection; the last one to close leaves all in one file."""
        if getattr(self._local, "connection", None) is not None:
            self._local.connection.close()
            self._local.connection = None

    def faults(self) -> list[str]:
        """What SQLite finds wrong with the file's structure; empty when nothing is."""
        if self._identity() is None:
            self._require_nothing_lost()
            return []
        return [text for (text,) in self.read("PRAGMA integrity_check(5)") if text != "ok"]

    @contextlib.contextmanager
    def writing(self, attached: Path | None = None) -> Iterator[sqlite3.Connection]:
        """One transaction; ``attached`` is another database that it may read, as ``scratch``."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = self._connection()
        if attached is not None:
            connection.execute("ATTACH ? AS scratch", (str(attached),))
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        finally:
            if attached is not None:
                connection.execute("DETACH scratch")

    def read(self, statement: str, *values: str | int | bytes, kinds: str = "") -> list[tuple[Any, ...]]:
        """The rows of a query; none while there is no index.

        Args:
            statement: the query.
            values: its parameters.
            kinds: what each column must hold, as in ``_KINDS``: SQLite itself lets any column hold anything.

        Raises:
            sqlite3.DatabaseError: the index is damaged.
        """
        if self._identity() is None:  # reading must not create it
            self._require_nothing_lost()
            return []
        try:
            rows = self._connection().execute(statement, values).fetchall()
        except UnicodeDecodeError as error:  # of a text, or of a name in SQLite's own complaint
            raise sqlite3.DatabaseError("a text in it is none") from error
        wanted = tuple(_KINDS[kind] for kind in kinds)
        for row in rows if wanted else ():
            if not all(map(isinstance, row, wanted)) or any(isinstance(value, str) and "\0" in value for value in row):
                raise sqlite3.DatabaseError("a row in it is not what it should be")
        return rows

    def note(self, *statements: str, values: tuple[str | int, ...]) -> None:
        """Write what may as well be lost: without waiting for another writer, and without an error where nothing can
        be written."""
        with contextlib.suppress(sqlite3.Error, OSError):
            connection = self._connection()
            connection.execute("PRAGMA busy_timeout = 0")
            try:
                for statement in statements:
                    connection.execute(statement, values)
            finally:
                connection.execute(f"PRAGMA busy_timeout = {_PATIENCE_S * 1000}")

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
            connection.execute("DELETE FROM objects WHERE cid = ?", (cid,))

    def has(self, cid: str) -> bool:
        return bool(self.read("SELECT 1 FROM objects WHERE cid = ?", cid))

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
