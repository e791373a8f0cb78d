"""One connection to a source, on a thread of its own: takes spans, brings their leaves, and copes with the source."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from citrate.core.errors import IntegrityError
from citrate.registry import cid as cids
from citrate.registry.attempts import ATTEMPTS, Attempts, pause_s
from citrate.registry.cid import RAW
from citrate.registry.dag import CHUNK_BYTES
from citrate.registry.fetching.assembly import Assembly
from citrate.registry.fetching.spans import Board, Span, Taker
from citrate.registry.fetching.writing import Writer
from citrate.registry.leaves import Leaves
from citrate.registry.sources import ByteStream, MissingError, NoStreamError, Source, UnansweredError

_WRITER_FROM_BYTES = 16 << 20
"""Files from here on are written by a thread of their own, behind the one that receives."""


@dataclass
class Standing:
    """What the connections to one source share: how often in a row it did not answer, and until when it rests."""

    strikes: int = 0
    rests_until_s: float = 0.0
    blocks_only: set[Assembly] = field(default_factory=set)
    """The files that it does not give as plain bytes."""
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Shared:
    """What all connections of one fetch share. ``placed`` is told of a file to follow, and of bytes that arrived;
    ``failed`` of what ends the whole fetch."""

    board: Board
    attempts: Attempts
    stopped: threading.Event
    placed: Callable[[Assembly, int, bool], None]
    failed: Callable[[BaseException], None]


class Lane(threading.Thread):
    """A connection at work."""

    def __init__(self, source: Source, standing: Standing, shared: Shared, *, small_only: bool) -> None:
        super().__init__(name=f"fetch {source.name}", daemon=True)
        self.taker = Taker(source.name, small_only)
        self._source = source
        self._standing = standing
        self._shared = shared
        self._answered = False
        self._buffer = memoryview(bytearray(CHUNK_BYTES))
        self._writer: Writer | None = None
        shared.board.join(self.taker)

    def run(self) -> None:
        board = self._shared.board
        try:
            while self._rested() and (span := board.take(self.taker)) is not None:
                if self._standing.rests_until_s > time.monotonic():  # that came up while this one waited
                    board.give_back(span)
                else:
                    self._serve(span)
        except BaseException as error:  # noqa: BLE001  # carried to the caller's thread
            self._shared.failed(error)
        finally:
            if self._writer is not None:
                self._writer.end()
            board.leave(self.taker)
            self._source.stop()

    def stop(self) -> None:
        """End soon, also while waiting for the source. From any thread."""
        self._source.stop()

    def _rested(self) -> bool:
        """Wait until the source may be asked again; False: the fetch is over."""
        while (wait_s := self._standing.rests_until_s - time.monotonic()) > 0:
            if self._shared.stopped.wait(wait_s):
                return False
        return not self._shared.stopped.is_set()

    def _serve(self, span: Span) -> None:
        name, began_s = self._source.name, time.monotonic()
        attempts, board = self._shared.attempts, self._shared.board
        try:
            self._carry(span)
        except IntegrityError as lie:
            attempts.lied(name, lie)
            board.drop(name)
        except NoStreamError as why:
            self._standing.blocks_only.add(span.assembly)
            attempts.failed(name, why)
        except MissingError as why:
            attempts.failed(name, why)
            board.lack(span)
        except UnansweredError as why:
            attempts.failed(name, why)
            self._rest(span, why, began_s)
        finally:
            board.give_back(span)

    def _rest(self, span: Span, why: UnansweredError, began_s: float) -> None:
        """Let the source alone for a while; after some such failures in a row, for good."""
        standing = self._standing
        with standing.lock:
            if self._shared.stopped.is_set() or began_s < standing.rests_until_s:
                return  # the other connections fail for the same reason
            wait_s = pause_s(standing.strikes, why)
            standing.strikes += 1
            if standing.strikes < ATTEMPTS and wait_s is not None:
                standing.rests_until_s = time.monotonic() + wait_s
                return
            standing.strikes = 0
        if not (self._answered and self._shared.board.lack(span, slow=True)):
            self._shared.board.drop(self._source.name)

    def _carry(self, span: Span) -> None:
        """Bring the leaves of a span.

        Raises:
            SourceError: as its subclasses say; what had come by then is kept.
            IntegrityError: the source gave something else.
        """
        assembly = span.assembly
        self._answered = False
        incoming = self._open(span)
        try:
            while span.at < span.end:
                stop = min(assembly.batch(span.at, span.end), span.end)
                if assembly.missing_run(span.at, stop) != (span.at, stop):
                    return  # somebody else was faster
                self._bring(incoming, assembly, span.at, stop)
                span.at = stop
                self._standing.strikes = 0
                self._shared.board.gave(span)
                self._shared.attempts.gave(self._source.name)
        finally:
            incoming.close()

    def _open(self, span: Span) -> ByteStream:
        assembly = span.assembly
        leaves = assembly.leaves
        if len(leaves) == 1 or assembly in self._standing.blocks_only:
            return _LeafByLeaf(self._source, leaves, span.at)
        stream = self._source.stream(
            assembly.entry.cid, leaves.offset(span.at), leaves.offset(span.end), leaves.size_bytes
        )
        self._answered = True
        return stream

    def _bring(self, incoming: ByteStream, assembly: Assembly, first: int, stop: int) -> None:
        length = assembly.leaves.offset(stop) - assembly.leaves.offset(first)
        if assembly.leaves.size_bytes < _WRITER_FROM_BYTES:
            piece = self._buffer[:length]
            self._read(incoming, piece)
            self._shared.placed(assembly, *assembly.put(first, stop, piece))
            return
        self._writer = self._writer or Writer(self._shared.placed, self._shared.failed)
        buffer = self._writer.buffer()
        accepted = False
        try:
            self._read(incoming, buffer[:length])
            accepted = assembly.accept(first, stop, buffer[:length])
        finally:
            if not accepted:
                self._writer.back(buffer)
        if accepted:
            self._writer.write(assembly, first, stop, buffer, length)

    def _read(self, incoming: ByteStream, piece: memoryview) -> None:
        began_s, done = time.monotonic(), 0
        while done < len(piece):
            if self._shared.stopped.is_set():
                raise UnansweredError("stopped")
            count = incoming.readinto(piece[done:])
            if count == 0:
                raise UnansweredError("the bytes ended too early")
            done += count
        self.taker.got(len(piece), time.monotonic() - began_s)


class _LeafByLeaf:
    """A file's bytes from a source that gives single blocks only."""

    def __init__(self, source: Source, leaves: Leaves, number: int) -> None:
        self._source = source
        self._leaves = leaves
        self._number = number
        self._rest = memoryview(b"")

    def readinto(self, buffer: memoryview) -> int:
        if not self._rest and self._number < len(self._leaves):
            self._rest = memoryview(self._next())
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _next(self) -> bytes:
        """The next leaf; compared here, since a block of another length would shift all that follow."""
        block = Attempts.block_from(self._source, cids.encode(RAW, self._leaves[self._number].digest), CHUNK_BYTES)
        self._number += 1
        return block

    def close(self) -> None:
        self._number = len(self._leaves)


def lanes_of(source: Source, shared: Shared, large: int, small: int) -> list[Lane]:
    """The connections that are worth having to a source.

    Args:
        source: one that answered already, if any did, so that it knows how far away it is.
        shared: what they share.
        large: how many pieces of large files are missing.
        small: how many small files are.
    """
    standing = Standing()
    wide = min(source.connections, max(large, 1))
    narrow = max(0, min(SMALL_CONNECTIONS - wide, small - 1))
    return [Lane(source.another(), standing, shared, small_only=number >= wide) for number in range(wide + narrow)]


SMALL_CONNECTIONS = 4
"""How many connections fetch small files side by side: for them the way there and back takes longer than the bytes."""
