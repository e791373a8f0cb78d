"""Which leaves are fetched by whom: free ones in order, and towards the end those of somebody slower.

A span is a run of leaves of one file that one connection fetches with one request. While only one connection fetches
large files, a span reaches to the end of what is missing, so that the bytes come as one stream; else it has as much as
comes in some seconds. Whoever finds nothing free takes over from whoever would be done last.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from citrate.registry.fetching.assembly import Assembly

SPAN_MIN_BYTES = 8 << 20
SPAN_MAX_BYTES = 128 << 20
_SPAN_S = 4.0
SMALL_BYTES = 4 << 20
SILENT_S = 2.0
_LATE_S = 1.0
_GAIN = 3.0
_RATED_FROM_BYTES = 64 << 10
_MISSES_MAX = 256
_SLOW_MISS = 86  # three of them in a row are enough
_WAIT_S = 0.25


@dataclass(eq=False)
class Taker:
    """One connection, as the board sees it. ``small_only``: it fetches only files that are one small span."""

    source: str
    small_only: bool = False
    bytes_per_s: float = 0.0
    last_s: float = 0.0
    """When it last got bytes."""

    def got(self, count: int, seconds: float) -> None:
        """Note that ``count`` bytes took so long."""
        self.last_s = time.monotonic()
        if count < _RATED_FROM_BYTES:
            return  # that is how far away it is, not how fast
        rate = count / max(seconds, 1e-6)
        self.bytes_per_s = rate if not self.bytes_per_s else 0.7 * self.bytes_per_s + 0.3 * rate

    def pace(self, now: float) -> float:
        """Bytes a second that may be expected of it; less, the longer it has been silent."""
        return self.bytes_per_s / max(1.0, now - self.last_s)


@dataclass(eq=False)
class Span:
    """Leaves ``at`` up to ``end`` of a file, on their way. ``end`` may come closer while they are."""

    assembly: Assembly
    start: int
    end: int
    taker: Taker
    at: int = 0
    began_s: float = field(default_factory=time.monotonic)
    shadowed: bool = False
    """Whether somebody fetches the same once more."""

    def __post_init__(self) -> None:
        self.at = self.start

    def left_bytes(self) -> int:
        """Bytes still to come."""
        leaves = self.assembly.leaves
        return leaves.offset(self.end) - leaves.offset(min(self.at, self.end))


@dataclass(frozen=True)
class _Region:
    """Leaves that nobody fetches yet."""

    assembly: Assembly
    start: int
    end: int


class Board:
    """All that is missing, given out to connections. Safe to use from several threads."""

    def __init__(self, assemblies: Iterable[Assembly]) -> None:
        self._changed = threading.Condition()
        self._large: deque[_Region] = deque()
        self._small: deque[_Region] = deque()
        self._active: set[Span] = set()
        self._takers: set[Taker] = set()
        self._over = False
        self._dropped: set[str] = set()
        self._lacks: dict[str, dict[Assembly, list[tuple[int, int]]]] = {}
        self._misses: dict[str, int] = {}
        self._narrowed: set[str] = set()
        for assembly in assemblies:
            self._free(assembly, 0, len(assembly.leaves), front=False)

    def _free(self, assembly: Assembly, start: int, end: int, *, front: bool) -> None:
        """Put what is missing of a run of leaves where it can be taken."""
        queue = self._small if assembly.entry.size_bytes < SMALL_BYTES else self._large
        while (run := assembly.missing_run(start, end)) is not None:
            region = _Region(assembly, *run)
            if front:
                queue.appendleft(region)
            else:
                queue.append(region)
            start = run[1]

    @property
    def spans_wanted(self) -> tuple[int, int]:
        """How many large and small pieces there are to be fetched now."""
        with self._changed:
            return len(self._large), len(self._small)

    def join(self, taker: Taker) -> None:
        """Count a connection among those that fetch."""
        with self._changed:
            self._takers.add(taker)

    def leave(self, taker: Taker) -> None:
        """Count it no more."""
        with self._changed:
            self._takers.discard(taker)
            self._changed.notify_all()

    def stop(self) -> None:
        """Give out nothing any more."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def drop(self, source: str) -> None:
        """Give a source nothing any more."""
        with self._changed:
            self._dropped.add(source)
            self._changed.notify_all()

    def take(self, taker: Taker) -> Span | None:
        """The next span for a connection; waits while others may still leave some. None: there is nothing for it."""
        with self._changed:
            while not self._over and taker.source not in self._dropped:
                span = self._next(taker) or (None if taker.small_only else self._take_over(taker))
                if span is not None:
                    self._active.add(span)
                    return span
                if not self._active or taker.small_only:
                    if taker.small_only or not self._narrow(taker.source):
                        break
                    continue
                self._changed.wait(_WAIT_S)
            return None

    def give_back(self, span: Span) -> None:
        """Say that a span is no longer being fetched; what is missing of it may be taken by others."""
        with self._changed:
            self._active.discard(span)
            self._free(span.assembly, span.start, span.end, front=True)
            self._changed.notify_all()

    def gave(self, span: Span) -> None:
        """Note that a source had what was asked for."""
        with self._changed:
            self._misses[span.taker.source] = 0

    def lack(self, span: Span, *, slow: bool = False) -> bool:
        """Note that a source does not give the leaf at ``span.at``, and ask it for ever later ones of this file first.

        Args:
            span: what it was asked for.
            slow: it took its time to say so.

        Returns:
            False: it has lacked so much in a row that it is not asked again at all.
        """
        source = span.taker.source
        with self._changed:
            misses = self._misses.get(source, 0) + (_SLOW_MISS if slow else 1)
            self._misses[source] = misses
            runs = self._lacks.setdefault(source, {}).setdefault(span.assembly, [])
            reach = 1 if source in self._narrowed else 1 << min(len(runs), 30)
            runs.append((span.at, min(len(span.assembly.leaves), span.at + reach)))
            if misses >= _MISSES_MAX:
                self._dropped.add(source)
                return False
            return True

    # ------------------------------------------------------------------ under the lock

    def _narrow(self, source: str) -> bool:
        """Come back to leaves that a source was not asked for only because it lacked those before; once."""
        lacks = self._lacks.get(source)
        if not lacks or source in self._narrowed:
            return False
        self._narrowed.add(source)
        for assembly, runs in lacks.items():
            lacks[assembly] = [(low, low + 1) for low, _ in runs]
        return True

    def _next(self, taker: Taker) -> Span | None:
        queues = (self._small,) if taker.small_only else (self._large, self._small)
        lacks = self._lacks.get(taker.source, {})
        for queue in queues:
            for index, region in enumerate(queue):
                run = _without(region, lacks.get(region.assembly, []))
                if run is None:
                    continue
                del queue[index]
                span = Span(region.assembly, run[0], min(run[1], self._limit(region.assembly, run[0], taker)), taker)
                pieces = [_Region(region.assembly, region.start, span.start)]
                pieces.append(_Region(region.assembly, span.end, region.end))
                for piece in reversed(pieces):
                    if piece.start < piece.end:
                        queue.insert(index, piece)
                return span
        return None

    def _limit(self, assembly: Assembly, start: int, taker: Taker) -> int:
        """Where a span from ``start`` on must end, so that nobody waits long for it."""
        leaves = assembly.leaves
        if sum(not other.small_only for other in self._takers) <= 1:
            return len(leaves)
        wanted = min(max(SPAN_MIN_BYTES, int(taker.bytes_per_s * _SPAN_S)), SPAN_MAX_BYTES)
        last = leaves.offset(start) + wanted
        return len(leaves) if last >= leaves.size_bytes else max(start + 1, leaves.containing(last))

    def _take_over(self, taker: Taker) -> Span | None:
        """Part of a span that another connection would finish late, or all of it a second time if it is small."""
        now = time.monotonic()
        lacks = self._lacks.get(taker.source, {})
        late = [
            (span.left_bytes() / max(span.taker.pace(now), 1.0), span)
            for span in self._active
            if span.taker is not taker and span.at < span.end and not span.shadowed and span.assembly not in lacks
        ]
        if not late:
            return None
        left_s, span = max(late, key=lambda entry: entry[0])
        several, elsewhere = span.end - span.at > 1, span.taker.source != taker.source
        if now - max(span.taker.last_s, span.began_s) > SILENT_S:
            return self._cut(span, span.at + 1, taker) if several else self._shadow(span, taker) if elsewhere else None
        if not span.taker.bytes_per_s or left_s < _LATE_S:
            return None
        theirs = max(span.taker.pace(now), 1.0)
        mine = taker.bytes_per_s or 2 * theirs  # who has shown nothing yet may try
        if several:
            leaves = span.assembly.leaves
            middle = leaves.offset(span.at) + int(span.left_bytes() * theirs / (theirs + mine))
            return self._cut(span, min(max(leaves.containing(middle), span.at + 1), span.end - 1), taker)
        return self._shadow(span, taker) if elsewhere and mine > _GAIN * theirs else None

    @staticmethod
    def _cut(span: Span, middle: int, taker: Taker) -> Span | None:
        if middle >= span.end:
            return None
        taken = Span(span.assembly, middle, span.end, taker)
        span.end = middle
        return taken

    @staticmethod
    def _shadow(span: Span, taker: Taker) -> Span:
        span.shadowed = True
        return Span(span.assembly, span.at, span.end, taker)


def _without(region: _Region, lacking: list[tuple[int, int]]) -> tuple[int, int] | None:
    """The first leaves in a row of a region that still are to be brought and that a source does not lack."""
    at = region.start
    while (run := region.assembly.missing_run(at, region.end)) is not None:
        start, end = run
        for low, high in sorted(lacking):
            if low <= start < high:
                start = high
            elif start < low < end:
                end = low
        if start < end:
            return start, end
        at = max(run[1], start)
        if at >= region.end:
            return None
    return None
