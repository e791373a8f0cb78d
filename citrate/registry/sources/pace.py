"""How fast bytes may come, and how slowly they may not."""

from __future__ import annotations

import threading
import time

from citrate.registry.sources.protocol import ByteStream, NoStreamError, Source, UnansweredError

STALL_WINDOW_S = 30.0
STALL_BYTES_PER_S = 8 << 10
_GRAIN_S = 0.1


class Watch:
    """Sees to it that a source does not drip: over each window of waiting for it, it must reach a least rate."""

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


class Limit:
    """At most ``bytes_per_s`` over all that share it: a token bucket that holds a moment's worth."""

    def __init__(self, bytes_per_s: int) -> None:
        self._bytes_per_s = bytes_per_s
        self._lock = threading.Lock()
        self._paid_until_s = 0.0

    def at_once(self, wanted: int) -> int:
        """How many of ``wanted`` bytes to read in one go, so that nobody waits long."""
        return max(1, min(wanted, int(self._bytes_per_s * _GRAIN_S)))

    def pay(self, count: int, stopped: threading.Event) -> None:
        """Wait until ``count`` bytes that have come were due, or until ``stopped``."""
        with self._lock:
            now = time.monotonic()
            self._paid_until_s = max(self._paid_until_s, now) + count / self._bytes_per_s
            wait_s = self._paid_until_s - now
        if wait_s > _GRAIN_S:
            stopped.wait(wait_s - _GRAIN_S)


class LimitedSource:
    """A source whose bytes are counted against a limit."""

    def __init__(self, source: Source, limit: Limit) -> None:
        self._source = source
        self._limit = limit
        self._stopped = threading.Event()

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def connections(self) -> int:
        return self._source.connections

    def another(self) -> LimitedSource:
        return LimitedSource(self._source.another(), self._limit)

    def stop(self) -> None:
        self._stopped.set()
        self._source.stop()

    def block(self, cid: str) -> bytes:
        block = self._source.block(cid)
        self._limit.pay(len(block), self._stopped)
        return block

    def stream(self, cid: str, offset: int, stop: int, size_bytes: int) -> ByteStream:
        return _LimitedStream(self._source.stream(cid, offset, stop, size_bytes), self._limit, self._stopped)

    def car(self, path_and_query: str) -> ByteStream:
        """As the source's own, if it has any.

        Raises:
            SourceError: as its subclasses say.
        """
        car = getattr(self._source, "car", None)
        if car is None:
            raise NoStreamError("gives no CARs")
        return _LimitedStream(car(path_and_query), self._limit, self._stopped)


class _LimitedStream:
    """A stream that waits after each piece until it was due."""

    def __init__(self, stream: ByteStream, limit: Limit, stopped: threading.Event) -> None:
        self._stream = stream
        self._limit = limit
        self._stopped = stopped

    def readinto(self, buffer: memoryview) -> int:
        count = self._stream.readinto(buffer[: self._limit.at_once(len(buffer))])
        self._limit.pay(count, self._stopped)
        return count

    def close(self) -> None:
        self._stream.close()
