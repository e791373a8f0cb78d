"""The two hashes of a file, fed piece by piece: its SHA-256, and the SHA-256 of each of its leaves.

Two implementations give the same: one loop for both hashes (``paired``), or hashlib twice, each on its own thread. A
file whose leaves are cut elsewhere than every 1 MiB takes the second way.
"""

from __future__ import annotations

import ctypes
import hashlib
from array import array
from collections.abc import Callable

from citrate.registry import paired
from citrate.registry.cutting import Cutter
from citrate.registry.dag import CHUNK_BYTES

PAIRED_FROM_BYTES = 128 << 20
"""Loading and compiling the loop takes as long as hashing this much."""


class DoubleHash:
    """Both hashes of a stream, with hashlib. Feed each of ``tasks`` every piece, in order; each may run on a thread of
    its own. All pieces but the last are whole leaves."""

    def __init__(self) -> None:
        self.leaves = bytearray()
        self.ends: array[int] | None = None
        """The offset behind each leaf, where they are not the usual ones."""
        self._whole = hashlib.sha256()

    @property
    def tasks(self) -> list[Callable[[memoryview], None]]:
        return [self._whole.update, self._hash_leaves]

    def hexdigest(self) -> str:
        """The SHA-256 of all bytes so far."""
        return self._whole.hexdigest()

    def finish(self) -> None:
        """End the last leaf; call it when all tasks have taken every piece."""

    def update(self, piece: memoryview) -> None:
        """Feed all tasks on this thread; a file that is one leaf is hashed once."""
        if len(piece) <= CHUNK_BYTES and not self.leaves:
            self._whole.update(piece)
            self.leaves += self._whole.digest()
            return
        for task in self.tasks:
            task(piece)

    def _hash_leaves(self, piece: memoryview) -> None:
        for at in range(0, len(piece), CHUNK_BYTES):
            self.leaves += hashlib.sha256(piece[at : at + CHUNK_BYTES]).digest()


class PairedHash(DoubleHash):
    """As ``DoubleHash``, in one loop on one thread."""

    def __init__(self, kernel: paired.Kernel) -> None:
        super().__init__()
        self._kernel = kernel
        self._states = (ctypes.c_char * (2 * paired.STATE_BYTES)).from_buffer_copy(paired.start_state() * 2)
        self._address = ctypes.addressof(self._states)
        self._size_bytes = 0
        self._tail = b""

    @property
    def tasks(self) -> list[Callable[[memoryview], None]]:
        return [self.update]

    def hexdigest(self) -> str:
        return self._finished(self._states.raw[: paired.STATE_BYTES], self._size_bytes).hex()

    def update(self, piece: memoryview) -> None:
        for at in range(0, len(piece), CHUNK_BYTES):
            self._leaf(piece[at : at + CHUNK_BYTES])

    def _leaf(self, leaf: memoryview) -> None:
        """Hash one leaf: the first state is the whole file's, the second starts anew."""
        assert not self._tail, "only the last piece may end inside a block"
        ctypes.memmove(self._address + paired.STATE_BYTES, paired.start_state(), paired.STATE_BYTES)
        blocks = len(leaf) // paired.BLOCK_BYTES
        if blocks:
            bytes_there = (ctypes.c_char * len(leaf)).from_buffer(leaf)
            self._kernel.two(self._address, ctypes.addressof(bytes_there), blocks)
        self._tail = bytes(leaf[blocks * paired.BLOCK_BYTES :])
        self._size_bytes += len(leaf)
        self.leaves += self._finished(self._states.raw[paired.STATE_BYTES :], len(leaf))

    def _finished(self, state: bytes, size_bytes: int) -> bytes:
        last = paired.padded(self._tail, size_bytes)
        states = (ctypes.c_char * paired.STATE_BYTES).from_buffer_copy(state)
        data = (ctypes.c_char * len(last)).from_buffer_copy(last)
        self._kernel.one(ctypes.addressof(states), ctypes.addressof(data), len(last) // paired.BLOCK_BYTES)
        return paired.digest_of(states.raw)


class CutHash(DoubleHash):
    """As ``DoubleHash``, of a file whose leaves end where ``cuts`` says; pieces may end anywhere.

    The paired loop cannot do this: such leaves begin inside the 64-byte blocks of the whole file's hash.
    """

    def __init__(self, cuts: Cutter) -> None:
        super().__init__()
        self.ends = array("Q")
        self._cuts = cuts
        self._leaf = hashlib.sha256()
        self._at = 0

    def update(self, piece: memoryview) -> None:
        for task in self.tasks:
            task(piece)

    def _hash_leaves(self, piece: memoryview) -> None:
        done = 0
        for end in self._cuts.feed(piece):
            self._leaf.update(piece[done : end - self._at])
            done = end - self._at
            self._end(end)
        self._leaf.update(piece[done:])
        self._at += len(piece)

    def _end(self, end: int) -> None:
        assert self.ends is not None
        self.ends.append(end)
        self.leaves += self._leaf.digest()
        self._leaf = hashlib.sha256()

    def finish(self) -> None:
        if self._at > (self.ends[-1] if self.ends else 0):
            self._end(self._at)


def double_hash(size_bytes: int | None, cuts: Cutter | None = None) -> DoubleHash:
    """The fastest for a file of about this size (None: unknown).

    Args:
        size_bytes: the file's.
        cuts: where the leaves end; None for the usual ones.
    """
    if cuts is not None:
        return CutHash(cuts)
    kernel = paired.kernel() if size_bytes is not None and size_bytes >= PAIRED_FROM_BYTES else None
    return PairedHash(kernel) if kernel is not None else DoubleHash()
