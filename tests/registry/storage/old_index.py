"""The index as earlier releases wrote it: their own SQL, and the rows that they would have put in."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from citrate.registry.store import database


def write_back(path: Path, version: int) -> None:
    """Replace an index by one of an earlier version with the same rows."""
    with sqlite3.connect(path) as now:
        now.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    now.close()
    old_path = path.with_name("old.sqlite")
    old = sqlite3.connect(old_path, isolation_level=None)
    old.execute("PRAGMA journal_mode = WAL")
    for step in database._STEPS[:version]:
        old.executescript(step)
    old.execute("ATTACH ? AS now", (str(path),))
    tables = old.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall()
    for (table,) in tables:
        columns = ", ".join(row[1] for row in old.execute(f"PRAGMA main.table_info({table})"))
        old.execute(f"INSERT INTO main.{table}({columns}) SELECT {columns} FROM now.{table}")
    old.execute("DETACH now")
    old.execute(f"PRAGMA main.user_version = {version}")
    old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    old.close()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
        old_path.with_name(old_path.name + suffix).unlink(missing_ok=True)
    old_path.replace(path)
