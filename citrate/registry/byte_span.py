"""Which bytes of a file are wanted, before anybody knows how many it has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ByteSpan:
    """Bytes of a file: from ``first`` to ``last``, both included, and counted from the end where they are negative.

    ``last`` None: to the end. By default all of them.
    """

    first: int = 0
    last: int | None = None

    @property
    def is_all(self) -> bool:
        return self.first == 0 and self.last is None

    def within(self, size_bytes: int) -> tuple[int, int]:
        """Start and end (excluded) in a file of this size; the start may lie behind its end."""
        start = max(0, size_bytes + self.first) if self.first < 0 else self.first
        if self.last is None:
            return start, size_bytes
        return start, min(size_bytes, (size_bytes + self.last if self.last < 0 else self.last) + 1)
