"""One file on its way: leaves come in any order, each is compared and written where it belongs.

The SHA-256 of the whole is serial, so it follows the front: the leaf that comes next is hashed for both as it arrives;
what came ahead of the front is read back, out of the page cache, when the front reaches it.
"""

from __future__ import annotations

import enum
import hashlib
import threading
import time
from pathlib import Path

from citrate.core.errors import StoreError
from citrate.core.records import FileEntry
from citrate.registry import cid as cids
from citrate.registry.attempts import mismatch
from citrate.registry.cid import RAW
from citrate.registry.dag import CHUNK_BYTES
from citrate.registry.fetching.fronthash import FrontHash, front_hash
from citrate.registry.fetching.placing import PlacedFile
from citrate.registry.leaves import Leaves
from citrate.registry.store.index import StagedFile
from citrate.registry.stream import HashedFile

_MOMENT_S = 0.001
_MISSING, _TAKEN, _HERE = range(3)
"""The states of a leaf; who has taken it, brings it or gives it back."""


class _Claim(enum.Enum):
    FRONT = "the leaf that the whole file's hash waits for"
    AHEAD = "another leaf"
    TAKEN = "somebody else's"


class Assembly:
    """A file being put together at ``path``. Safe to use from several threads.

    ``follow`` is due when ``put`` or ``recognise`` say so; it must be called once then, by any thread.
    """

    def __init__(self, entry: FileEntry, leaves: Leaves, root: Path, path: Path) -> None:
        self.entry = entry
        self.leaves = leaves
        self.path = path
        self._root = root
        self._lock = threading.Lock()
        self._states = bytearray(len(leaves))
        self._missing = len(leaves)
        self._front = 0
        self._busy = False  # somebody feeds the front, or finishes the file
        self._hash: FrontHash = front_hash(leaves)
        self._disk: PlacedFile | None = None
        self._closed = False

    @property
    def is_whole(self) -> bool:
        """Whether every leaf has arrived."""
        return self._missing == 0

    def missing_run(self, first: int, stop: int) -> tuple[int, int] | None:
        """The first leaves in a row, from ``first`` on and before ``stop``, that nobody has brought yet."""
        start = self._states.find(_MISSING, first, stop)
        if start < 0:
            return None
        ends = [end for state in (_TAKEN, _HERE) if (end := self._states.find(state, start, stop)) >= 0]
        return start, min(ends, default=stop)

    def batch(self, first: int, stop: int) -> int:
        """Where the leaves end that are fetched from ``first`` on with one read of at most 1 MiB; one leaf at least."""
        return batch_stop(self.leaves, first, stop)

    def open(self) -> PlacedFile:
        """The file on disk, with room reserved for all of it.

        Raises:
            StoreError: no room, or no permission.
        """
        with self._lock:
            if self._closed:
                raise StoreError(f"{self.path} is closed", cid=self.entry.cid)
            if self._disk is None:
                disk = PlacedFile.reopen(self._root, self.path)
                try:
                    disk.preallocate(self.entry.size_bytes)
                except BaseException:
                    disk.abandon()
                    raise
                self._disk = disk
            return self._disk

    def put(self, first: int, stop: int, piece: memoryview) -> tuple[int, bool]:
        """``accept`` and ``keep`` in one; 0 bytes of what somebody else brings."""
        return self.keep(first, stop, piece) if self.accept(first, stop, piece) else (0, False)

    def accept(self, first: int, stop: int, piece: memoryview) -> bool:
        """Take leaves ``first`` up to ``stop``, whose bytes are in ``piece``; ``keep`` must follow, on any thread.

        Returns:
            False: somebody else has brought some of them, or is about to; nothing was done.

        Raises:
            IntegrityError: one of them is not what its CID says; none is taken.
        """
        claim = self._claim(first, stop)
        if claim is _Claim.TAKEN:
            return False
        try:
            self._compare(first, stop, piece, claim)
        except BaseException:
            self._let_go(first, stop, claim)
            raise
        self._fed(stop, claim)
        return True

    def keep(self, first: int, stop: int, piece: memoryview) -> tuple[int, bool]:
        """Write leaves that were accepted.

        Returns:
            How many bytes they have, and whether ``follow`` is due.

        Raises:
            StoreError: no room, or the disk failed; the file cannot be completed any more.
        """
        try:
            self.open().write_at(piece, self.leaves.offset(first))
        except BaseException:
            self._let_go(first, stop, _Claim.AHEAD)
            raise
        return self._placed(first, stop)

    def recognise(self, number: int, piece: memoryview) -> tuple[int, bool]:
        """As ``put``, of one leaf that may stand on disk already: 0 bytes if it is not right."""
        claim = self._claim(number, number + 1)
        try:
            right = self._digest(piece, claim) == self.leaves[number].digest
        except BaseException:
            self._let_go(number, number + 1, claim)
            raise
        if not right:
            self._let_go(number, number + 1, claim)
            return 0, False
        self._fed(number + 1, claim)
        return self._placed(number, number + 1)

    def _claim(self, first: int, stop: int) -> _Claim:
        with self._lock:
            if self._closed or self._states.count(_MISSING, first, stop) < stop - first:
                return _Claim.TAKEN
            self._states[first:stop] = bytes([_TAKEN]) * (stop - first)
            if self._busy or first != self._front:
                return _Claim.AHEAD
            self._busy = True
        self._hash.mark()
        return _Claim.FRONT

    def _let_go(self, first: int, stop: int, claim: _Claim) -> None:
        if claim is _Claim.FRONT:
            self._hash.undo()
        with self._lock:
            self._states[first:stop] = bytes([_MISSING]) * (stop - first)
            self._busy = self._busy and claim is not _Claim.FRONT

    def _digest(self, piece: memoryview, claim: _Claim) -> bytes:
        return self._hash.leaf(piece) if claim is _Claim.FRONT else hashlib.sha256(piece).digest()

    def _compare(self, first: int, stop: int, piece: memoryview, claim: _Claim) -> None:
        start = self.leaves.offset(first)
        for number in range(first, stop):
            leaf = self.leaves[number]
            digest = self._digest(piece[leaf.offset - start : leaf.end - start], claim)
            if digest != leaf.digest:
                raise mismatch(
                    f"block {number} is not what its CID says",
                    self.entry.path,
                    cids.encode(RAW, leaf.digest),
                    cids.encode(RAW, digest),
                )

    def _fed(self, stop: int, claim: _Claim) -> None:
        if claim is _Claim.FRONT:
            with self._lock:
                self._front = stop
                self._busy = False

    def _placed(self, first: int, stop: int) -> tuple[int, bool]:
        with self._lock:
            self._states[first:stop] = bytes([_HERE]) * (stop - first)
            self._missing -= stop - first
            due = not self._busy and (self._missing == 0 or self._front_is_here())
            self._busy = self._busy or due
        return self.leaves.offset(stop) - self.leaves.offset(first), due

    def _front_is_here(self) -> bool:
        return self._front < len(self.leaves) and self._states[self._front] == _HERE

    def follow(self) -> StagedFile | None:
        """Feed the hash what has arrived ahead of the front; the sealed file, once all of it was fed.

        Raises:
            IntegrityError: the leaves are what the CID says, but the SHA-256 of them all is another.
            StoreError: the disk failed.
        """
        disk = self.open()
        buffer = memoryview(bytearray(CHUNK_BYTES))
        while (run := self._ahead()) is not None:
            first, stop = run
            start = self.leaves.offset(first)
            piece = buffer[: self.leaves.offset(stop) - start]
            disk.read_at(piece, start)
            self._hash.follow(piece)
            self._front = stop
        return self._seal(disk) if self._front == len(self.leaves) else None

    def _ahead(self) -> tuple[int, int] | None:
        """The leaves behind the front that may be fed now, a buffer full at most; None: no more, for now or at all."""
        with self._lock:
            first = self._front
            if first == len(self.leaves):
                return None
            stop = batch_stop(self.leaves, first, len(self.leaves))
            while stop > first and self._states.count(_HERE, first, stop) < stop - first:
                stop -= 1
            if stop == first:
                self._busy = False
                return None
            return first, stop

    def _seal(self, disk: PlacedFile) -> StagedFile:
        sha256 = self._hash.hexdigest()
        if self.entry.sha256 and sha256 != self.entry.sha256:
            raise mismatch(
                f"{self.entry.path}: the blocks are what its CID says, but their SHA-256 is another",
                self.entry.path,
                self.entry.sha256,
                sha256,
            )
        with self._lock:
            self._disk, self._closed = None, True
        leaves = self.leaves
        hashed = HashedFile(leaves.size_bytes, sha256, leaves.digests, leaves.ends)
        return disk.seal(self.entry.path, hashed)

    def leave(self) -> None:
        """Close the file as it is: what has arrived stays, a file of which nothing has is removed."""
        with self._lock:
            disk, self._disk, self._closed = self._disk, None, True
        if disk is None:
            return
        while _TAKEN in self._states:  # a late one is on its way out
            time.sleep(_MOMENT_S)
        with self._lock:
            last = self._states.rfind(_HERE)
            disk.cut(self.leaves.offset(last + 1))
            disk.abandon()
            if last < 0:
                self.path.unlink(missing_ok=True)


def batch_stop(leaves: Leaves, first: int, stop: int) -> int:
    """Where a run of leaves from ``first`` on ends that fits a buffer of 1 MiB; it has one leaf at least."""
    if leaves.ends is None:
        return min(first + 1, stop)
    start, end = leaves.offset(first), first + 1
    while end < stop and leaves.offset(end + 1) - start <= CHUNK_BYTES:
        end += 1
    return end
