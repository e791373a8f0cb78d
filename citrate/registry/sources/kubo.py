"""A Kubo node over its RPC.

What it gives is received as a gateway's answers are, and not by the client library, which would take up an answer
whole, follow it wherever it redirects, and wait for a drip without a bound.
"""

from __future__ import annotations

import json
import urllib.parse

from citrate.core.errors import CitrateError
from citrate.registry.kubo import Kubo, is_absence
from citrate.registry.sources.protocol import (
    ByteStream,
    MissingError,
    NoStreamError,
    SourceError,
    UnansweredError,
    fill,
)
from citrate.registry.sources.wire import Address, Answer, Wire, block_of

_BUSY = (429, 502, 503, 504)
_REFUSAL_MAX_BYTES = 16 << 10


class KuboSource:
    """A Kubo node over its RPC. One connection is kept open; a thread uses one of its own: ``another``."""

    connections = 1
    """The node itself asks many others at once."""

    def __init__(self, api: str) -> None:
        self._kubo = Kubo(api)
        self._stopped = False
        self._base = ""
        self._opened: Wire | None = None

    @property
    def name(self) -> str:
        return self._kubo.name

    def another(self) -> KuboSource:
        return KuboSource(self._kubo.name)

    def stop(self) -> None:
        self._stopped = True
        if self._opened is not None:
            self._opened.stop()

    def block(self, cid: str) -> bytes:
        return block_of(self._ask("block/get", arg=cid))

    def stream(self, cid: str, offset: int, stop: int, size_bytes: int) -> ByteStream:  # noqa: ARG002  # Kubo knows it
        return self._ask("cat", arg=cid, offset=str(offset), length=str(stop - offset))

    def car(self, path_and_query: str) -> ByteStream:
        """A whole DAG; see ``cars.CarGiver``."""
        cid, _, query = path_and_query.partition("?")
        if "/" in cid or "dag-scope=all" not in query:
            raise NoStreamError("exports whole DAGs only")
        return self._ask("dag/export", arg=cid, progress="false")

    def _ask(self, command: str, **options: str) -> Answer:
        if self._stopped:
            raise UnansweredError("stopped")
        wire = self._wire()
        answer = wire.post(f"{self._base}{command}?{urllib.parse.urlencode(options)}")
        if answer.status == 200:
            return answer
        raise self._refused(answer, options["arg"])

    def _wire(self) -> Wire:
        if self._opened is None:
            try:
                url, socket_path = self._kubo.endpoint()
            except CitrateError as error:
                raise MissingError(error.message) from error
            parts = urllib.parse.urlsplit(url)
            called = "localhost" if socket_path else ""
            address = Address(parts.hostname or "", parts.port, parts.scheme == "https", called, socket_path)
            self._base, self._opened = parts.path, Wire(address)
        return self._opened

    def _refused(self, answer: Answer, cid: str) -> SourceError:
        """Why a node gives nothing: in its own words, of which no more are read than a line or two."""
        buffer = memoryview(bytearray(_REFUSAL_MAX_BYTES))
        said = bytes(buffer[: fill(answer, buffer)])
        answer.close()
        try:
            words = str(json.loads(said)["Message"])
        except (ValueError, TypeError, KeyError, RecursionError):
            if answer.status in _BUSY:
                return UnansweredError(f"HTTP {answer.status}", answer.retry_after_s)
            return MissingError(f"answers HTTP {answer.status}, as no Kubo RPC does")
        if is_absence(words):
            return MissingError(f"does not have {cid}")
        return UnansweredError(f"refused: {words[:200]}")

    def __del__(self) -> None:
        opened: Wire | None = getattr(self, "_opened", None)
        if opened is not None:
            opened.drop()
