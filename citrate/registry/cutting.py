"""Where a file's leaves end, told while its bytes come: the profiles that citrate writes files with.

``unixfs-v1-2025`` cuts every 1 MiB. ``citrate-tensor-v1`` cuts at the ends of tensors too, and begins anew at each:
what a tensor's leaves are then depends on its own bytes alone, not on what stands before it, so a new version of a
model, the same one sharded otherwise, or as GGUF shares them. It is valid UnixFS, of the same trees and folders;
files that hold no tensors, or whose header is not of the form that the rule gives, have the usual leaves.
"""

from __future__ import annotations

import bisect
import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from citrate.core.records import PROFILE, TENSOR_PROFILE
from citrate.registry.dag import CHUNK_BYTES
from citrate.registry.tensor_headers import HEADER_MAX_BYTES, Boundaries, Scan, scan

PLAIN_PROFILES = (PROFILE, TENSOR_PROFILE)
"""The profiles whose leaves are slices of plain files."""


class Cutter(Protocol):
    """Says where the leaves of one file end. What it says of some bytes depends on them and those before only."""

    def feed(self, piece: memoryview) -> Sequence[int]:
        """Look at the next bytes of the file.

        Returns:
            The offsets in the file, inside or right behind these bytes, behind which a leaf ends; the end of the
            file, which is one too, is not known here.
        """
        ...


def cutter(profile: str) -> Cutter | None:
    """What cuts a new file in ``profile``; None for the usual leaves."""
    return TensorCuts() if profile == TENSOR_PROFILE else None


class TensorCuts:
    """The rule of ``citrate-tensor-v1``.

    The header is cut every 1 MiB like any file, so until it is whole (at most 64 MiB of it are held) nothing needs
    to be decided: only where it ends do the two rules part.
    """

    def __init__(self) -> None:
        self._at = 0
        self._head = bytearray()
        self._scan: Scan | None = scan(self._head)
        self._wanted = next(self._scan)
        self._ends = _ends(())
        self._next = next(self._ends)

    def feed(self, piece: memoryview) -> Sequence[int]:
        """See ``Cutter.feed``."""
        if self._scan is not None:
            self._head += piece[: HEADER_MAX_BYTES - len(self._head)]
            self._look(self._scan)
        return self.skip(len(piece))

    @property
    def decided(self) -> bool:
        """Whether the bytes that follow change nothing any more; then they may be skipped."""
        return self._scan is None

    def skip(self, length: int) -> Sequence[int]:
        """As ``feed``, of bytes that need not be looked at."""
        self._at += length
        found = []
        while self._next <= self._at:
            found.append(self._next)
            self._next = next(self._ends)
        return found

    def _look(self, scan: Scan) -> None:
        """Read on in the header; where it is whole, cut as it says from here on."""
        try:
            while self._wanted <= len(self._head):
                self._wanted = next(scan)
        except StopIteration as done:
            boundaries: Boundaries | None = done.value
        else:
            if self._wanted <= HEADER_MAX_BYTES:
                return
            boundaries = None
        self._scan, self._head = None, bytearray()
        if boundaries is not None:
            self._ends = _ends(boundaries)
            self._next = next(end for end in self._ends if end > self._at)


def _ends(boundaries: Sequence[int]) -> Iterator[int]:
    """Every end of a leaf: each stretch between two boundaries is cut every 1 MiB from its own start, and so is what
    follows the last, without end."""
    start = 0
    for boundary in boundaries:
        yield from range(start + CHUNK_BYTES, boundary, CHUNK_BYTES)
        yield boundary
        start = boundary
    yield from itertools.count(start + CHUNK_BYTES, CHUNK_BYTES)


def tensor_ends(content: Iterable[bytes], size_bytes: int) -> array[int]:
    """Where the leaves of a whole file end; of its content no more is taken than its header."""
    cuts, ends, at = TensorCuts(), array("Q"), 0
    for piece in content:
        ends.extend(cuts.feed(memoryview(piece)))
        at += len(piece)
        if cuts.decided:
            break
    ends.extend(cuts.skip(size_bytes - at))
    if not ends or ends[-1] < size_bytes:
        ends.append(size_bytes)
    return ends


class GivenCuts:
    """Cuts a file where it is known to be cut, as its tree says. ``at``: the offset of the first byte that comes."""

    def __init__(self, ends: Sequence[int], at: int = 0) -> None:
        self._ends = ends
        self._at = at

    def feed(self, piece: memoryview) -> Sequence[int]:
        """See ``Cutter.feed``."""
        first = bisect.bisect_right(self._ends, self._at)
        self._at += len(piece)
        return self._ends[first : bisect.bisect_right(self._ends, self._at)]
