"""A file's SHA-256, fed leaf by leaf as they come in order, and able to take the last of them back.

A leaf that turns out wrong must not spoil the hash of all that was right before it.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable

from citrate.registry import paired
from citrate.registry.doublehash import PAIRED_FROM_BYTES
from citrate.registry.leaves import Leaves


class FrontHash:
    """Both hashes with hashlib."""

    def __init__(self) -> None:
        self._whole = hashlib.sha256()
        self._before = self._whole
        self._empty = True

    def mark(self) -> None:
        """Remember this point for ``undo``."""
        self._before = self._whole.copy()

    def undo(self) -> None:
        """Forget what came since ``mark``."""
        self._whole = self._before

    def leaf(self, piece: memoryview) -> bytes:
        """Take the next leaf; returns its own digest."""
        first, self._empty = self._empty, False
        self._whole.update(piece)
        return self._whole.digest() if first else hashlib.sha256(piece).digest()

    def follow(self, piece: memoryview) -> None:
        """Take bytes whose leaves were compared before."""
        self._empty = False
        self._whole.update(piece)

    def hexdigest(self) -> str:
        """The SHA-256 of all that was taken."""
        return self._whole.hexdigest()


class PairedFrontHash(FrontHash):
    """Both in one loop (``paired``). All leaves but the last are a multiple of a block of 64 bytes."""

    def __init__(self, kernel: paired.Kernel) -> None:
        super().__init__()
        self._kernel = kernel
        self._states = (ctypes.c_char * (2 * paired.STATE_BYTES)).from_buffer_copy(paired.start_state() * 2)
        self._address = ctypes.addressof(self._states)
        self._size_bytes = 0
        self._tail = b""
        self._marked = (self._states.raw, 0, b"")

    def mark(self) -> None:
        self._marked = (self._states.raw, self._size_bytes, self._tail)

    def undo(self) -> None:
        state, self._size_bytes, self._tail = self._marked
        ctypes.memmove(self._address, state, len(state))

    def leaf(self, piece: memoryview) -> bytes:
        leaf = self._address + paired.STATE_BYTES
        ctypes.memmove(leaf, paired.start_state(), paired.STATE_BYTES)
        self._advance(self._kernel.two, piece)
        return self._finished(self._states.raw[paired.STATE_BYTES :], len(piece))

    def follow(self, piece: memoryview) -> None:
        self._advance(self._kernel.one, piece)

    def _advance(self, loop: Callable[[int, int, int], None], piece: memoryview) -> None:
        assert not self._tail, "only the last leaf may end inside a block"
        blocks = len(piece) // paired.BLOCK_BYTES
        if blocks:
            there = (ctypes.c_char * len(piece)).from_buffer(piece)
            loop(self._address, ctypes.addressof(there), blocks)
        self._tail = bytes(piece[blocks * paired.BLOCK_BYTES :])
        self._size_bytes += len(piece)

    def hexdigest(self) -> str:
        return self._finished(self._states.raw[: paired.STATE_BYTES], self._size_bytes).hex()

    def _finished(self, state: bytes, size_bytes: int) -> bytes:
        last = paired.padded(self._tail, size_bytes)
        states = (ctypes.c_char * paired.STATE_BYTES).from_buffer_copy(state)
        data = (ctypes.c_char * len(last)).from_buffer_copy(last)
        self._kernel.one(ctypes.addressof(states), ctypes.addressof(data), len(last) // paired.BLOCK_BYTES)
        return paired.digest_of(states.raw)


def front_hash(leaves: Leaves) -> FrontHash:
    """The faster of the two for a file."""
    paired_fits = leaves.ends is None and leaves.size_bytes >= PAIRED_FROM_BYTES
    kernel = paired.kernel() if paired_fits else None
    return PairedFrontHash(kernel) if kernel is not None else FrontHash()
