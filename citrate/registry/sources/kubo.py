"""A Kubo node over its RPC."""

from __future__ import annotations

import time
from collections.abc import Generator

from citrate.core.errors import CitrateError, NotFoundError
from citrate.registry.kubo import Kubo
from citrate.registry.sources.pace import Watch
from citrate.registry.sources.protocol import ByteStream, MissingError, NoStreamError, SourceError, UnansweredError


class KuboSource:
    """A Kubo node over its RPC."""

    connections = 1
    """The node itself asks many others at once."""

    def __init__(self, api: str) -> None:
        self._kubo = Kubo(api)
        self._stopped = False

    @property
    def name(self) -> str:
        return self._kubo.name

    def another(self) -> KuboSource:
        return KuboSource(self._kubo.name)

    def stop(self) -> None:
        self._stopped = True  # what waits in the client's session ends with its own timeout

    def block(self, cid: str) -> bytes:
        self._check()
        try:
            return self._kubo.block(cid)
        except CitrateError as error:
            raise _from_kubo(error) from error

    def stream(self, cid: str, offset: int, stop: int, size_bytes: int) -> ByteStream:  # noqa: ARG002  # Kubo knows it
        self._check()
        try:
            return _Pieces(self._kubo.cat(cid, offset, stop - offset))
        except CitrateError as error:
            raise _from_kubo(error) from error

    def car(self, path_and_query: str) -> ByteStream:
        """A whole DAG; see ``cars.CarGiver``."""
        self._check()
        cid, _, query = path_and_query.partition("?")
        if "/" in cid or "dag-scope=all" not in query:
            raise NoStreamError("exports whole DAGs only")
        try:
            return _Pieces(self._kubo.dag(cid))
        except CitrateError as error:
            raise _from_kubo(error) from error

    def _check(self) -> None:
        if self._stopped:
            raise UnansweredError("stopped")


class _Pieces:
    """A stream made of pieces of any length."""

    def __init__(self, pieces: Generator[bytes, None, None]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")
        self._watch = Watch()

    def readinto(self, buffer: memoryview) -> int:
        while not self._rest:
            began_s = time.monotonic()
            try:
                self._rest = memoryview(next(self._pieces))
                self._watch.got(len(self._rest), time.monotonic() - began_s)
            except StopIteration:
                return 0
            except CitrateError as error:
                raise _from_kubo(error) from error
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        self._pieces.close()


def _from_kubo(error: CitrateError) -> SourceError:
    return MissingError(error.message) if isinstance(error, NotFoundError) else UnansweredError(error.message)
