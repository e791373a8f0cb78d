"""What a source is: it returns bytes unverified, and says in one word why it cannot."""

from __future__ import annotations

import time
from typing import Protocol

from citrate.registry.dag import CHUNK_BYTES

PIECE_TIMEOUT_S = 120.0
"""How long a source may take over one leaf (1 MiB), however busily it drips."""


class SourceError(Exception):
    """A source did not give what it was asked for; the text is the reason."""


class MissingError(SourceError):
    """It does not have it, or will not give it: asking again is useless."""


class UnansweredError(SourceError):
    """It could not be reached, or broke off: asking again may help. ``retry_after_s``: not earlier; 0: not said."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NoStreamError(SourceError):
    """It gives no plain files (from this offset): its blocks may still be had one by one."""


class ByteStream(Protocol):
    """The bytes of a file, unverified."""

    def readinto(self, buffer: memoryview) -> int:
        """Fill the front of ``buffer``; 0 at the end.

        Raises:
            UnansweredError: the source broke off.
        """
        ...

    def close(self) -> None: ...


class Source(Protocol):
    """Something that may have blocks and files. For one thread at a time, but for ``stop``."""

    @property
    def name(self) -> str:
        """What the user calls it: ``store``, or a URL or multiaddr."""
        ...

    @property
    def connections(self) -> int:
        """How many connections side by side are worth having for large files."""
        ...

    def another(self) -> Source:
        """The same source, for another thread."""
        ...

    def stop(self) -> None:
        """Let whatever waits for the source end soon, as unanswered. From any thread."""
        ...

    def block(self, cid: str) -> bytes:
        """The block of a CID, at most 2 MiB, unverified.

        Raises:
            SourceError: as its subclasses say.
        """
        ...

    def stream(self, cid: str, offset: int, stop: int, size_bytes: int) -> ByteStream:
        """The bytes of the file with this CID and size from ``offset`` up to ``stop``, unverified.

        More bytes may follow: read no further, and close.

        Raises:
            SourceError: as its subclasses say.
        """
        ...


def fill(stream: ByteStream, buffer: memoryview) -> int:
    """Read until ``buffer`` is full or the stream ends; returns the bytes read.

    Raises:
        UnansweredError: the source broke off, or drips so slowly that it will not do.
    """
    deadline = time.monotonic() + PIECE_TIMEOUT_S * max(1, len(buffer) // CHUNK_BYTES)
    length = 0
    while length < len(buffer):
        count = stream.readinto(buffer[length:])
        if count == 0:
            break
        length += count
        if time.monotonic() > deadline:
            raise UnansweredError(f"gave only {length} bytes in {PIECE_TIMEOUT_S:.0f} s")
    return length
