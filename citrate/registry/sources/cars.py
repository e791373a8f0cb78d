"""Blocks out of CARs: what a walk over a DAG wants next comes with one request, and each block is compared as it comes.

A gateway sends a CAR depth first, in the order in which a walk asks. So the walk decides, and the CAR only has to bring
the block that is asked for next; a few others may come before it and wait (``order=unk``). Nothing that a gateway sends
is read any further than it is wanted: a CAR that brings other things is closed, and single blocks are asked for.
"""

from __future__ import annotations

import io
import time
import urllib.parse
from collections import OrderedDict
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from citrate.core.errors import FormatError, IntegrityError
from citrate.registry import cid as cids
from citrate.registry.carfile import CarFile
from citrate.registry.cid import Cid
from citrate.registry.sources import protocol
from citrate.registry.sources.protocol import (
    ByteStream,
    MissingError,
    NoStreamError,
    Source,
    SourceError,
    UnansweredError,
)

AHEAD_MAX_BYTES = 8 << 20
"""How much may come, and wait, before what was asked for."""
_RECENT_MAX_BYTES = 4 << 20
"""Blocks that were given last: a walk looks at some twice."""
_USELESS_MAX = 3
"""After so many CARs that did not bring what was asked for, a gateway is asked for single blocks only."""
_READ_BYTES = 1 << 18
_ENTRY_BYTES = 512
"""What a block takes in memory, however small it is."""


@runtime_checkable
class CarGiver(Source, Protocol):
    """A source that gives CARs, too."""

    def car(self, path_and_query: str) -> ByteStream:
        """A CAR, unverified: ``CID[/path]?...`` as the trustless gateway's specification says.

        Raises:
            SourceError: as its subclasses say; ``NoStreamError``: it gives no CARs, or not this one.
        """
        ...


def dag_request(cid: str) -> str:
    """What to ask for a whole DAG, every block once."""
    return f"{cid}?format=car&dag-scope=all&car-order=dfs&car-dups=n"


def entity_request(cid: str, path: str, start: int, stop: int | None) -> str:
    """What to ask for the bytes from ``start`` up to ``stop`` (None: the end) of a file, after what proves its path.

    A negative ``start`` counts from the end. Blocks come as often as they are needed.
    """
    names = "".join(f"/{urllib.parse.quote(name, safe='')}" for name in path.split("/") if name)
    last = "*" if stop is None else stop - 1
    return f"{cid}{names}?format=car&dag-scope=entity&entity-bytes={start}:{last}&car-order=dfs&car-dups=y"


class CarFed:
    """The blocks of one gateway for one walk: out of CARs where they come that way, else one by one.

    Every block is compared with its CID. For one thread.

    Args:
        source: the gateway.
        first: the CAR to ask for with the first block; empty: the whole DAG under every block that is missing, unless
            that is a leaf.
    """

    def __init__(self, source: CarGiver, first: str = "") -> None:
        self._source = source
        self._singles: Source | None = None
        self._first = first
        self._whole_dags = not first
        self._car: _Incoming | None = None
        self._useless = 0
        self._why = ""

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def connections(self) -> int:
        return self._source.connections

    def another(self) -> Source:
        return self._source.another()

    def stop(self) -> None:
        self._source.stop()
        if self._singles is not None:
            self._singles.stop()

    def stream(self, cid: str, offset: int, stop: int, size_bytes: int) -> ByteStream:
        return self.another().stream(cid, offset, stop, size_bytes)

    def block(self, cid: str) -> bytes:
        """A block, compared with its CID.

        Raises:
            SourceError: as its subclasses say.
            IntegrityError: it sent another block under this CID.
            FormatError: a hash function that is not known here.
        """
        wanted = Cid.parse(cid)
        found = self._from_car(wanted)
        if found is None and self._begin_car(wanted):
            found = self._from_car(wanted)
        return self._single(wanted) if found is None else found

    def close(self) -> None:
        """End what is still coming."""
        if self._car is not None:
            self._car.close()
            self._car = None

    def _begin_car(self, wanted: Cid) -> bool:
        request, self._first = self._first, ""
        if not request and self._whole_dags and self._useless < _USELESS_MAX and wanted.codec != cids.RAW:
            request = dag_request(str(wanted))
        if not request:
            return False
        self.close()
        try:
            self._car = _Incoming(self._source.car(request))
        except (NoStreamError, FormatError) as error:
            self._useless, self._why = _USELESS_MAX, str(error)  # it gives none
            return False
        except MissingError:
            if self._whole_dags:
                raise
            return False  # it may say so of the path: whether that exists is proved by the blocks that lead there
        return True

    def _from_car(self, wanted: Cid) -> bytes | None:
        """The block out of the CAR that is coming; None if it does not bring it."""
        if self._car is None:
            return None
        try:
            found = self._car.take(wanted)
            why = "its CAR brought other blocks"
        except (SourceError, FormatError) as error:
            found, why = None, f"its CAR: {error}"
        except IntegrityError:
            self.close()
            raise
        if found is None:
            if not self._car.given or self._car.is_overfull:
                self._useless, self._why = self._useless + 1, why
            self.close()
        return found

    def _single(self, wanted: Cid) -> bytes:
        if self._singles is None:
            self._singles = self._source.another()
        try:
            block = self._singles.block(str(wanted))
        except MissingError as error:
            raise MissingError(self._explained(error)) from error
        except UnansweredError as error:
            raise UnansweredError(self._explained(error), error.retry_after_s) from error
        return verified(wanted, block)

    def _explained(self, error: SourceError) -> str:
        return f"{error}; {self._why}" if self._why else str(error)


def verified(wanted: Cid, block: bytes) -> bytes:
    """``block``, if it is the wanted one.

    Raises:
        IntegrityError: it is another.
        FormatError: a hash function that is not known here.
    """
    if not wanted.matches(block):
        raise IntegrityError(
            "a block is not what its CID says",
            path=str(wanted),
            expected=wanted.digest.hex(),
            actual=wanted.hash(block)[: len(wanted.digest)].hex(),
            hint="nothing of it was kept",
        )
    return block


class _Incoming:
    """A CAR on its way.

    Raises:
        FormatError: it does not begin as one.
        SourceError: as its subclasses say.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._raw = _Paced(stream)
        self.given = 0
        try:
            buffered = io.BufferedReader(self._raw, _READ_BYTES)
            self._blocks: Iterator[tuple[Cid, bytes]] = CarFile(buffered, rootless=True).blocks()
        except BaseException:
            stream.close()
            raise
        self._ahead: dict[bytes, bytes] = {}
        self._recent: OrderedDict[bytes, bytes] = OrderedDict()
        self._recent_bytes = 0
        self._unasked_bytes = 0
        self._owed_bytes = 0
        """Of blocks that were given twice, and may therefore come twice."""

    def take(self, wanted: Cid) -> bytes | None:
        """The wanted block; None if the CAR ended without it, or brought too much else.

        Raises:
            FormatError: the CAR is malformed or cut off.
            IntegrityError: a block of it is not what its CID says.
            UnansweredError: it broke off, or drips.
        """
        key = wanted.multihash
        if key in self._recent:
            self._owed_bytes += len(self._recent[key])
            return self._recent[key]
        if key in self._ahead:
            block = self._ahead.pop(key)
            self._unasked_bytes -= len(block) + _ENTRY_BYTES
            return self._give(key, block)
        while not self.is_overfull:
            self._raw.expect()
            cid, block = next(self._blocks, (None, b""))
            if cid is None:
                return None
            if cid.multihash == key:
                return self._give(key, block)
            if cid.multihash in self._recent and self._owed_bytes >= len(block):
                self._owed_bytes -= len(block)
                continue
            self._unasked_bytes += len(block) + _ENTRY_BYTES
            self._ahead[cid.multihash] = block
        return None

    @property
    def is_overfull(self) -> bool:
        """Whether too much came that nobody asked for."""
        return self._unasked_bytes > AHEAD_MAX_BYTES

    def _give(self, key: bytes, block: bytes) -> bytes:
        self.given += 1
        self._recent[key] = block
        self._recent_bytes += len(block) + _ENTRY_BYTES
        while self._recent_bytes > _RECENT_MAX_BYTES and len(self._recent) > 1:
            self._recent_bytes -= len(self._recent.popitem(last=False)[1]) + _ENTRY_BYTES
        return block

    def close(self) -> None:
        self._stream.close()


class _Paced(io.RawIOBase):
    """A source's stream as a file, with a time within which each block has to come."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._deadline = 0.0
        self.expect()

    def expect(self) -> None:
        """Begin to wait for the next block."""
        self._deadline = time.monotonic() + protocol.PIECE_TIMEOUT_S

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what BufferedReader gives
        count = self._stream.readinto(memoryview(buffer))
        if time.monotonic() > self._deadline:
            raise UnansweredError(f"took more than {protocol.PIECE_TIMEOUT_S:.0f} s for a block")
        return count
