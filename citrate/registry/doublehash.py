"""The two hashes of a file, fed piece by piece: its SHA-256, and the SHA-256 of each of its leaves.

Two implementations give the same: one loop for both hashes (``paired``), or hashlib twice, each on its own thread. A
file whose leaves are cut elsewhere than every 1 MiB takes the second way.
"""

from __future__ import annotations

import ctypes
import hashlib
from array import array
from collections.abc import Callable

from citrate.core.errors import IntegrityError
from citrate.registry import cid as cids
from citrate.registry import paired
from citrate.registry.cid import DIGEST_BYTES
from citrate.registry.cutting import Cutter
from citrate.registry.dag import CHUNK_BYTES

PAIRED_FROM_BYTES = 128 << 20
"""Loading and compiling the loop takes as long as hashing this much."""


class DoubleHash:
    """Both hashes of a stream, with hashlib. Feed each of ``tasks`` every piece, in order; each may run on a thread of
    its own. All pieces but the last are whole leaves.

    Args:
        expected: digests of the leaves that must come, 32 bytes each; the first that differs raises IntegrityError.
    """

    def __init__(self, expected: bytes | None = None) -> None:
        self.expected = expected
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
            self.append(self._whole.digest())
            return
        for task in self.tasks:
            task(piece)

    def _hash_leaves(self, piece: memoryview) -> None:
        for at in range(0, len(piece), CHUNK_BYTES):
            self.append(hashlib.sha256(piece[at : at + CHUNK_BYTES]).digest())

    def append(self, digest: bytes) -> None:
        """Note the next leaf's digest.

        Raises:
            IntegrityError: another was expected.
        """
        if self.expected is not None:
            wanted = self.expected[len(self.leaves) : len(self.leaves) + DIGEST_BYTES]
            if digest != wanted:
                raise IntegrityError(
                    f"block {len(self.leaves) // DIGEST_BYTES} is not what its CID says",
                    path="",
                    expected=cids.encode(cids.RAW, wanted) if wanted else "end of file",
                    actual=cids.encode(cids.RAW, digest),
                )
        self.leaves += digest


class PairedHash(DoubleHash):
    """As ``DoubleHash``, in one loop on one thread."""

    def __init__(self, kernel: paired.Kernel, expected: bytes | None = None) -> None:
        super().__init__(expected)
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
        self.append(self._finished(self._states.raw[paired.STATE_BYTES :], len(leaf)))

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

    def __init__(self, cuts: Cutter, expected: bytes | None = None) -> None:
        super().__init__(expected)
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
        digest, self._leaf = self._leaf.digest(), hashlib.sha256()
        self.append(digest)

    def finish(self) -> None:
        if self._at > (self.ends[-1] if self.ends else 0):
            self._end(self._at)


def double_hash(size_bytes: int | None, expected: bytes | None = None, cuts: Cutter | None = None) -> DoubleHash:
    """The fastest for a file of about this size (None: unknown).

    Args:
        size_bytes: the file's.
        expected: as for ``DoubleHash``.
        cuts: where the leaves end; None for the usual ones.
    """
    if cuts is not None:
        return CutHash(cuts, expected)
    kernel = paired.kernel() if size_bytes is not None and size_bytes >= PAIRED_FROM_BYTES else None
    return PairedHash(kernel, expected) if kernel is not None else DoubleHash(expected)
