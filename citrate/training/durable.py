"""Files that are whole or not there, and on the disk before anything relies on them."""

from __future__ import annotations

import os
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """Put ``data`` where ``path`` says, over what stood there: all of it, or nothing."""
    staging = path.with_name(f".{path.name}")  # left behind by whoever is killed, and written over by the next
    with staging.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    staging.rename(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Have a folder and all that is in it on the disk."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)
    sync(folder.parent)


def keep_lines(path: Path, count: int) -> None:
    """Cut a journal behind its first lines. Nothing is written anew: what is kept cannot be lost by it.

    A file that is not there has no lines; ``count`` is at most what it has.
    """
    if not path.exists():
        return
    with path.open("rb+") as file:
        for _ in range(count):
            file.readline()
        file.truncate(file.tell())


def lines(path: Path) -> list[bytes]:
    """The whole lines of a journal; one that was torn, which lacks its end, is none."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []
