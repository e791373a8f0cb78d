"""Writing in pieces that the kernel has memory for.

A file system with large folios puts what one ``write`` brings into memory of that size in one piece. For a megabyte and
more it has to look for it, and where memory is fragmented that costs ten times the write itself
(docs/decisions/writing-to-disk.md).
"""

from __future__ import annotations

from collections.abc import Iterator

from citrate.core.sink import Buffer

WRITE_BYTES = 256 << 10


def in_pieces(data: Buffer) -> Iterator[memoryview]:
    """``data``, in order, never more than ``WRITE_BYTES`` at once."""
    view = memoryview(data)
    return (view[at : at + WRITE_BYTES] for at in range(0, len(view), WRITE_BYTES))
