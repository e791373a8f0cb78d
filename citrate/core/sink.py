"""Where converters write to: files hashed as they are written, so nothing is read a second time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from citrate.core.records import FileEntry

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``; units are bytes unless the stage says otherwise. Must be cheap."""

Buffer: TypeAlias = bytes | bytearray | memoryview


class SinkFile(Protocol):
    """One file being written, in order."""

    def write(self, data: Buffer) -> None:
        """Append ``data`` (contiguous, any item type)."""
        ...

    def close(self) -> FileEntry:
        """Finish the file; returns its size, SHA-256 and CID."""
        ...


class Sink(Protocol):
    """Takes the files of one artifact. Nothing is visible to anybody until its owner commits it."""

    def open(self, path: str, size_bytes: int | None = None) -> SinkFile:
        """Start the file ``path`` (relative, ``/``); ``size_bytes`` preallocates, where it is known.

        Raises:
            FormatError: the path is unsafe or was opened before.
            StoreError: no room, or no permission.
        """
        ...
