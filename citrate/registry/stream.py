"""Hash a stream of bytes twice while it is read and written: as one SHA-256 and leaf by leaf.

The SHA-256 of a whole file is serial by nature, so the thread that computes it sets the pace and must never wait:
the bytes come in a ring of reused buffers that is filled ahead of it, and other threads do the rest (the leaves, where
``doublehash`` needs a thread for them, and the writing to disk) from the same buffers. Hashing does not hold the
interpreter's lock.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from citrate.core.errors import CitrateError
from citrate.core.records import FileEntry
from citrate.core.sink import Buffer
from citrate.registry.cut_dag import file_dag
from citrate.registry.dag import CHUNK_BYTES, Dag
from citrate.registry.doublehash import DoubleHash
from citrate.registry.leaves import Leaves

SLOT_BYTES = 2 * CHUNK_BYTES
_SLOTS = 8
_SPARE: deque[bytearray] = deque(maxlen=2 * _SLOTS)  # buffers of finished streams: allocating is dear, reusing is not


@dataclass(frozen=True, slots=True)
class HashedFile:
    """What a stream turned out to be.

    Attributes:
        leaves: the SHA-256 of each leaf, 32 bytes each, one after the other.
        ends: the offset behind each leaf; None for the usual ones.
    """

    size_bytes: int
    sha256: str
    leaves: bytes
    ends: array[int] | None = None

    @property
    def cut(self) -> Leaves:
        """The file's leaves."""
        return Leaves(self.size_bytes, self.leaves, self.ends).normal()

    def dag(self) -> Dag:
        """The file's tree."""
        return file_dag(self.cut)

    def entry(self, path: str, dag: Dag) -> FileEntry:
        """The file at ``path`` of an artifact; ``dag`` is its tree."""
        tsize = None if self.cut.ends is None else dag.tsize
        return FileEntry(path, self.size_bytes, self.sha256, dag.cid, tsize)


@dataclass
class _Slot:
    buffer: bytearray
    length: int = 0
    readers: int = 0

    @property
    def filled(self) -> memoryview:
        return memoryview(self.buffer)[: self.length]


class Stream:
    """One file's bytes, in order. Fill the buffer that ``slot`` gives, ``push`` it, and ``finish``.

    Threads start only when there is more than one buffer to hash, so small files cost none.

    Args:
        write: called with each piece in order, on a thread of its own (of the caller for small files); it sees
            exactly the bytes that are hashed.
        hashes: takes every byte, and has taken none before.
    """

    def __init__(
        self,
        *,
        write: Callable[[memoryview], None] | None = None,
        hashes: DoubleHash | None = None,
    ) -> None:
        self._hashes = hashes or DoubleHash()
        self._size_bytes = 0
        self._write = write
        self._free: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        self._made = 0
        self._first: _Slot | None = None
        self._queues: list[queue.SimpleQueue[_Slot | None]] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._failure: BaseException | None = None

    def slot(self) -> bytearray:
        """An empty buffer; waits while all are being hashed.

        Raises:
            CitrateError: a write failed on the way.
        """
        self._check()
        if self._made < _SLOTS and self._free.empty():
            self._made += 1
            self._current = _Slot(_new_buffer())
        else:
            self._current = self._free.get()
        return self._current.buffer

    def push(self, length: int) -> None:
        """Hand over the buffer of the last ``slot`` call, of which ``length`` bytes are filled.

        All but the last of a stream must be full.
        """
        slot = self._current
        slot.length = length
        self._size_bytes += length
        if not self._threads and self._first is None:
            self._first = slot
            return
        if not self._threads:
            self._start()
        self._dispatch(slot)

    def finish(self) -> HashedFile:
        """Wait for every byte to be hashed and written.

        Raises:
            CitrateError: as ``slot``.
        """
        if self._threads:
            self._join()
        elif self._first is not None:
            for task in (self._hashes.update, self._write):
                if task is not None:
                    task(self._first.filled)
        self._check()
        self._release()
        self._hashes.finish()
        leaves, ends = bytes(self._hashes.leaves), self._hashes.ends
        if not leaves:  # an empty file has one empty leaf
            leaves, ends = hashlib.sha256().digest(), None
        return HashedFile(self._size_bytes, self._hashes.hexdigest(), leaves, ends)

    def abort(self) -> None:
        """Stop, wait for the threads, forget everything. Does nothing after ``finish``."""
        if self._failure is None:
            self._failure = CitrateError("stopped")
        self._join()
        self._release()

    def _release(self) -> None:
        slots = [self._first] if self._first and not self._threads else []
        while not self._free.empty():
            slots.append(self._free.get())
        self._first = None
        self._threads = []
        _SPARE.extend(slot.buffer for slot in slots if slot)

    def _start(self) -> None:
        write = [self._write] if self._write is not None else []
        for task in [*self._hashes.tasks, *write]:
            tasks: queue.SimpleQueue[_Slot | None] = queue.SimpleQueue()
            thread = threading.Thread(target=self._work, args=(task, tasks), daemon=True)
            self._queues.append(tasks)
            self._threads.append(thread)
            thread.start()
        assert self._first is not None
        self._dispatch(self._first)

    def _dispatch(self, slot: _Slot) -> None:
        slot.readers = len(self._queues)
        for tasks in self._queues:
            tasks.put(slot)

    def _work(self, task: Callable[[memoryview], None], tasks: queue.SimpleQueue[_Slot | None]) -> None:
        while (slot := tasks.get()) is not None:
            if self._failure is None:
                try:
                    task(slot.filled)
                except BaseException as error:  # noqa: BLE001  # carried to the caller's thread by _check
                    self._failure = error
            with self._lock:
                slot.readers -= 1
                done = slot.readers == 0
            if done:
                self._free.put(slot)

    def _join(self) -> None:
        for tasks in self._queues:
            tasks.put(None)
        for thread in self._threads:
            thread.join()
        self._queues = []

    def _check(self) -> None:
        if self._failure is not None:
            failure = self._failure
            self._join()
            raise failure


def _new_buffer() -> bytearray:
    try:
        return _SPARE.pop()
    except IndexError:
        return bytearray(SLOT_BYTES)


class Feeder:
    """Copies pieces of any length into a stream's buffers."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._at = 0

    def write(self, data: Buffer) -> None:
        """Append ``data``."""
        view = memoryview(data).cast("B")
        while len(view):
            if not self._buffer:
                self._buffer, self._at = self._stream.slot(), 0
            count = min(len(view), len(self._buffer) - self._at)
            self._buffer[self._at : self._at + count] = view[:count]
            self._at, view = self._at + count, view[count:]
            if self._at == len(self._buffer):
                self._push()

    def finish(self) -> HashedFile:
        """Hash what is left; see ``Stream.finish``."""
        if self._at:
            self._push()
        return self._stream.finish()

    def _push(self) -> None:
        self._stream.push(self._at)
        self._buffer, self._at = bytearray(), 0
