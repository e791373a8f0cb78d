"""Writing to disk behind the thread that receives and compares, so that it goes on receiving meanwhile."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from citrate.registry.dag import CHUNK_BYTES
from citrate.registry.fetching.assembly import Assembly

_BUFFERS = 4


@dataclass(frozen=True)
class _Job:
    assembly: Assembly
    first: int
    stop: int
    buffer: memoryview
    length: int


class Writer:
    """A thread that writes leaves which were accepted.

    Args:
        placed: told of each piece that stands on disk: the file, its bytes, and whether ``follow`` is due.
        failed: told what ends the fetch.
    """

    def __init__(self, placed: Callable[[Assembly, int, bool], None], failed: Callable[[BaseException], None]) -> None:
        self._placed = placed
        self._failed = failed
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        for _ in range(_BUFFERS):
            self._free.put(memoryview(bytearray(CHUNK_BYTES)))
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="fetch writer", daemon=True)
        self._thread.start()

    def buffer(self) -> memoryview:
        """A buffer of 1 MiB to fill; waits for one."""
        return self._free.get()

    def back(self, buffer: memoryview) -> None:
        """Give back a buffer of which nothing is to be written."""
        self._free.put(buffer)

    def write(self, assembly: Assembly, first: int, stop: int, buffer: memoryview, length: int) -> None:
        """Write the front of ``buffer``, the leaves ``first`` up to ``stop``, and then give the buffer back."""
        self._jobs.put(_Job(assembly, first, stop, buffer, length))

    def end(self) -> None:
        """Wait until all stands on disk."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                new_bytes, due = job.assembly.keep(job.first, job.stop, job.buffer[: job.length])
                self._placed(job.assembly, new_bytes, due)
            except BaseException as error:  # noqa: BLE001  # carried to the caller's thread
                self._failed(error)
            self._free.put(job.buffer)
