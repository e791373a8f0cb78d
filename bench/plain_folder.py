"""A folder to write into, for contestants whose hashing is not what is timed."""

from __future__ import annotations

from pathlib import Path

from citrate.core.records import FileEntry
from citrate.core.sink import Buffer
from citrate.registry.store.layout import start_write_back

_WRITE_BACK = 32 << 20  # as the store has it


class PlainFile:
    def __init__(self, path: Path) -> None:
        self._file, self._path, self._size, self._begun = path.open("wb", buffering=0), path, 0, 0

    def write(self, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        self._size += view.nbytes
        while view:
            view = view[self._file.write(view) :]
        if self._size - self._begun >= _WRITE_BACK:
            start_write_back(self._file.fileno(), self._begun, self._size - self._begun)
            self._begun = self._size

    def close(self) -> FileEntry:
        self._file.close()
        return FileEntry(self._path.name, self._size, "", "")


class PlainFolder:
    """Writes files as the store does, but without hashes, so that the stage is what is timed; whoever writes syncs."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True)

    def open(self, path: str, size_bytes: int | None = None) -> PlainFile:  # noqa: ARG002 - a sink's
        return PlainFile(self._root / path)
