"""What has arrived of a DAG that is still being fetched, so that the next attempt goes on where this one ended.

The blocks lie one after the other in a pack; beside it stands a list with each block's CID and length. After an
interruption both are trusted for nothing: every block is compared with its CID again, and what follows the last right
one is cut off.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from citrate.core.errors import FormatError
from citrate.registry.cid import Cid
from citrate.registry.dagpb import BLOCK_MAX_BYTES
from citrate.registry.varint import read_varint, varint

_FLUSH_EVERY_BYTES = 1 << 20
"""A kill loses at most this much of what had arrived."""


class Arrivals:
    """The list beside a pack.

    Args:
        folder: holds both; the list is made where there is none.
        pack: the pack, open for reading and writing.
    """

    def __init__(self, folder: Path, pack: BinaryIO) -> None:
        path = folder / "list"
        path.touch()
        self._list: BinaryIO = path.open("r+b")
        self._pack = pack
        self._unflushed_bytes = 0

    def replay(self) -> Iterator[tuple[Cid, bytes]]:
        """The blocks that are there and right, in the order in which they came; cuts off what follows them."""
        at = end = 0
        self._pack.seek(0)
        while size := self._list.read(1):
            try:
                cid, length = _entry(self._list.read(size[0]))
                block = self._pack.read(length)
                if len(block) < length or not cid.matches(block):
                    break
            except FormatError:
                break
            at, end = at + 1 + size[0], end + length
            yield cid, block
        self._list.seek(at)
        self._list.truncate()
        self._pack.seek(end)
        self._pack.truncate()

    def note(self, cid: Cid, length: int) -> None:
        """Add a block that was written to the pack."""
        entry = cid.binary + varint(length)
        self._list.write(bytes((len(entry),)) + entry)  # a CID that is no block itself has at most 100 bytes
        self._unflushed_bytes += length
        if self._unflushed_bytes >= _FLUSH_EVERY_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand everything to the system, the blocks before their names."""
        self._pack.flush()
        self._list.flush()
        self._unflushed_bytes = 0

    def clear(self) -> None:
        """Forget everything."""
        self._list.seek(0)
        self._list.truncate()

    def close(self) -> None:
        """Close the list; the pack is its owner's to close."""
        self._list.close()


def _entry(entry: bytes) -> tuple[Cid, int]:
    """A CID and its block's length.

    Raises:
        FormatError: cut off or malformed.
    """
    cid, at = Cid.read(entry, 0)
    length, at = read_varint(entry, at)
    if length > BLOCK_MAX_BYTES:
        raise FormatError("a block past its bound")
    return cid, length


def is_empty(folder: Path) -> bool:
    """Whether nothing has arrived."""
    path = folder / "list"
    return not path.exists() or path.stat().st_size == 0
