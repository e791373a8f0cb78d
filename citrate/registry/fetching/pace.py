"""How fast bytes may come, and how slow they may not."""

from __future__ import annotations

import threading
import time

from citrate.registry.sources import UnansweredError

STALL_WINDOW_S = 30.0
STALL_BYTES_PER_S = 8 << 10
_GRAIN_S = 0.1


class Limit:
    """At most ``bytes_per_s`` (0: as many as come) over all who share it: a token bucket."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._lock = threading.Lock()
        self._free_s = 0.0
        self._stopped = threading.Event()

    def grant(self, wanted: int) -> int:
        """How many of the bytes wanted may be read now; waits until it is at least one."""
        if not self._bytes_per_s:
            return wanted
        count = max(1, min(wanted, int(self._bytes_per_s * _GRAIN_S)))
        with self._lock:
            now = time.monotonic()
            due_s = max(self._free_s, now)
            self._free_s = due_s + count / self._bytes_per_s
        self._stopped.wait(due_s - now)
        return count

    def unused(self, count: int) -> None:
        """Give back bytes that were granted and did not come."""
        if self._bytes_per_s and count:
            with self._lock:
                self._free_s -= count / self._bytes_per_s

    def stop(self) -> None:
        """Let nobody wait any more."""
        self._stopped.set()


class Watch:
    """Sees to it that a source does not drip: over each window of waiting for it, a least rate must be reached."""

    def __init__(self) -> None:
        self._bytes = 0
        self._waited_s = 0.0

    def got(self, count: int, seconds: float) -> None:
        """Note that ``count`` bytes took so long.

        Raises:
            UnansweredError: they came too slowly.
        """
        self._bytes += count
        self._waited_s += seconds
        if self._waited_s < STALL_WINDOW_S:
            return
        if self._bytes < STALL_BYTES_PER_S * self._waited_s:
            raise UnansweredError(f"gave only {self._bytes} bytes in {self._waited_s:.0f} s")
        self._bytes, self._waited_s = 0, 0.0
