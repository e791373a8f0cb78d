"""Where converters write to: files hashed as they are written, so nothing is read a second time."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from citrate.core.records import FileEntry

STEPWISE = frozenset({"tokens", "logits", "pin", "train", "answers"})
"""The stages of work that count steps; all others count bytes."""


class Progress(Protocol):
    """Called back from any thread, some hundred times a second, so it must be cheap; what it raises ends the work."""

    def __call__(self, stage: str, done: int, total: int, source: str = "", /) -> None:
        """Take note of how far a stage is.

        Args:
            stage: what is being done: ``hash``, ``add``, ``fetch``, a variant, ...
            done: bytes; steps in the stages of ``STEPWISE``.
            total: the same when the stage is at its end; 0 where nobody knows.
            source: who the bytes come from, where they come from somebody.
        """
        ...


def unwatched(stage: str, done: int, total: int, source: str = "", /) -> None:
    """Progress that nobody looks at."""


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
