"""The index as a database: opened, created, brought up to date, and compared with what it should be.

SQLite in WAL mode, so that readers never wait for a writer. It lets any column hold anything, and a damaged file hands
out rows all the same, so what is read is compared with what was asked for.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any

from citrate.core.errors import StoreError
from citrate.registry.atomic import make_folder
from citrate.registry.store import exclusion
from citrate.registry.store.layout import file_lock, is_no_room

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


class Database:
    """The index of one store as a file. Every thread has its own connection."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection; a new one where another file took the index's place (``rebuilding``)."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        there = self._identity()
        if connection is None or self._local.identity != there:
            self.close()
            if there is None:
                self._require_nothing_lost()
            self._local.connection = connection = self._open()
            self._local.identity = self._identity()
        return connection

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection; on a full disk one for this query only, because once there is room again others
        write, and it would not see it."""
        try:
            connection = self._connection()
        except sqlite3.OperationalError as error:
            if not is_no_room(error, self._path.parent) or self._has_log():
                raise
            with contextlib.closing(self._open_as_it_is()) as connection:
                if connection.execute("PRAGMA user_version").fetchone() != (_VERSION,):
                    raise
                yield connection
            return
        yield connection

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"the index {self._path} is no file", hint=REINDEX_HINT)
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
            if os.access(self._path.parent, os.W_OK) or self._has_log():
                raise
            connection = self._open_as_it_is()
        return connection

    def _has_log(self) -> bool:
        """Whether somebody writes, or was killed at it: then the file alone does not tell all."""
        log = self._path.with_name(f"{self._path.name}-wal")
        return log.exists() and log.stat().st_size > 0

    def _open_as_it_is(self) -> sqlite3.Connection:
        """Open the file to read it alone, with no other beside it."""
        uri = f"file:{urllib.parse.quote(str(self._path))}?immutable=1"
        return sqlite3.connect(uri, uri=True, isolation_level=None)

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
        make_folder(self._path.parent)
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
        make_folder(self._path.parent)
        with exclusion.changing(self._path.parent):
            connection = self._connection()
            if attached is not None:
                connection.execute("ATTACH ? AS scratch", (str(attached),))
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:  # a full disk ends it by itself
                        connection.execute("ROLLBACK")
                    raise
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
            with self._reading() as connection:
                rows = connection.execute(statement, values).fetchall()
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
