"""How fast something goes, and how long it will still take: smoothed over seconds, not from one block to the next."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_WINDOW_S = 10.0
_APART_S = 0.25


class Pace:
    """Watches one stage of work. Units are the stage's own: bytes, or steps."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()
        self._last = (0.0, 0)

    def update(self, done: int) -> None:
        """Take note of how far the work is; cheap. Less than before means that it began anew."""
        now = self._clock()
        if not self._seen or done < self._last[1]:
            self._seen.clear()
            self._seen.append((now, done))
        self._last = (now, done)
        if now - self._seen[-1][0] >= _APART_S:
            self._seen.append(self._last)
        while len(self._seen) > 1 and now - self._seen[1][0] >= _WINDOW_S:
            self._seen.popleft()

    @property
    def per_second(self) -> float | None:
        """Units a second over the last seconds; None before there is anything to tell."""
        if not self._seen:
            return None
        (began, from_), (now, done) = self._seen[0], self._last
        return (done - from_) / (now - began) if now - began >= _APART_S else None

    def left_s(self, total: int) -> float | None:
        """Seconds until ``total`` is reached; None where nobody can say."""
        rate = self.per_second
        return (total - self._last[1]) / rate if rate and total else None
