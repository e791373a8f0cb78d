"""A file's leaves: which bytes each of them holds, and their hashes.

The profile ``unixfs-v1-2025`` cuts every 1 MiB; another profile may cut elsewhere, never further apart than that.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from citrate.registry.cid import DIGEST_BYTES
from citrate.registry.dag import CHUNK_BYTES, leaf_count


@dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf of a file. ``number``: its place among them, from 0."""

    number: int
    offset: int
    length: int
    digest: bytes

    @property
    def end(self) -> int:
        """The offset behind its last byte."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Leaves:
    """All leaves of a file, in order.

    Attributes:
        size_bytes: of the file.
        digests: the SHA-256 of each leaf, 32 bytes each, one after the other; an empty file has one empty leaf.
        ends: the offset behind each leaf (uint64), or None where every leaf but the last has 1 MiB.
    """

    size_bytes: int
    digests: bytes
    ends: array[int] | None = None

    def normal(self) -> Leaves:
        """The same, without ``ends`` where they are the usual ones."""
        count = len(self)
        if self.ends is None or count != leaf_count(self.size_bytes):
            return self
        usual = all(end == number * CHUNK_BYTES for number, end in enumerate(self.ends[: count - 1], 1))
        return Leaves(self.size_bytes, self.digests) if usual else self

    def __len__(self) -> int:
        return len(self.digests) // DIGEST_BYTES

    def __getitem__(self, number: int) -> Leaf:
        if not 0 <= number < len(self):
            raise IndexError(number)
        begin, end = self.offset(number), self.offset(number + 1)
        return Leaf(number, begin, end - begin, self.digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES])

    def __iter__(self) -> Iterator[Leaf]:
        return (self[number] for number in range(len(self)))

    def offset(self, number: int) -> int:
        """Where a leaf begins; of the number behind the last one, the file's size."""
        if self.ends is not None:
            return self.ends[number - 1] if number else 0
        return min(number * CHUNK_BYTES, self.size_bytes)

    def containing(self, offset: int) -> int:
        """The number of the leaf that holds the byte at ``offset``, which lies inside the file."""
        return bisect.bisect_right(self.ends, offset) if self.ends is not None else offset // CHUNK_BYTES
