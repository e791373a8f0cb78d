"""Trustless gateways over HTTP."""

from __future__ import annotations

import http.client
import urllib.parse
from collections.abc import Callable

from citrate.core.errors import ConfigError
from citrate.registry.dagpb import BLOCK_MAX_BYTES
from citrate.registry.sources.protocol import (
    ByteStream,
    MissingError,
    NoStreamError,
    SourceError,
    UnansweredError,
    fill,
)

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
"""How long a source may be silent."""

_RETRY_STATUS = (429, 502, 503, 504)


class GatewaySource:
    """A trustless IPFS gateway over HTTP; raw blocks, and plain files where it serves them.

    Written on ``http.client``, which reads into our own buffers: httpx took 1.7 times as long for the same file.
    Redirects are not followed. One connection is kept open; do not share it between threads.
    """

    def __init__(self, url: str) -> None:
        self._connection: http.client.HTTPConnection | None = None
        parts = urllib.parse.urlsplit(url.rstrip("/"))
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(f"{url!r} is not the address of a gateway", hint="for example http://127.0.0.1:8480")
        try:
            self._port = parts.port
        except ValueError as error:
            raise ConfigError(f"{url!r} has no valid port", hint="for example http://127.0.0.1:8480") from error
        self._name = urllib.parse.urlunsplit(parts)
        self._host = parts.hostname
        # Kubo answers the name localhost with a redirect to a subdomain, and an address with the bytes.
        self._headers = {"Host": f"127.0.0.1:{self._port or 80}"} if self._host == "localhost" else {}
        self._secure = parts.scheme == "https"
        self._base = parts.path.removesuffix("/ipfs")

    @property
    def name(self) -> str:
        return self._name

    def block(self, cid: str) -> bytes:
        accept = {"Accept": "application/vnd.ipld.raw"}
        response = self._get(f"{cid}?format=raw", accept)
        if response.status != 200:
            raise self._refused(response)
        buffer = bytearray(BLOCK_MAX_BYTES + 1)
        body = _Body(response, self._drop)
        length = fill(body, memoryview(buffer))  # if it is too long, the piece of it that we return is not its CID's
        body.close()
        return bytes(buffer[:length])

    def stream(self, cid: str, offset: int, size_bytes: int) -> ByteStream:
        headers = {"Accept": "application/octet-stream, */*;q=0.5"}
        if offset:
            headers["Range"] = f"bytes={offset}-{size_bytes - 1}"
        response = self._get(cid, headers)
        length = response.getheader("Content-Length")
        whole = response.status == 200 and offset == 0
        part = response.status == 206 and (response.getheader("Content-Range") or "").startswith(f"bytes {offset}-")
        if (whole or part) and not response.getheader("Content-Encoding"):
            if length in (None, str(size_bytes - offset)):
                return _Body(response, self._drop)
            self._drop()
            raise NoStreamError(f"announces {length} bytes, not {size_bytes - offset}")
        if response.status in (404, 410) or response.status in _RETRY_STATUS:
            raise self._refused(response)
        self._drop()
        raise NoStreamError(f"answers HTTP {response.status} for a plain file")

    def _refused(self, response: http.client.HTTPResponse) -> SourceError:
        location = response.getheader("Location")
        reason = f"HTTP {response.status}" + (f", redirects to {location[:200]}" if location else "")
        self._drop()
        return UnansweredError(reason) if response.status in _RETRY_STATUS else MissingError(reason)

    def _get(self, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        reused = self._connection is not None
        try:
            return self._send(path, headers)
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            if not reused:
                raise UnansweredError(_reason(error)) from error
        try:  # the server had closed the connection that we kept
            return self._send(path, headers)
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            raise UnansweredError(_reason(error)) from error

    def _send(self, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            self._connection = kind(self._host, self._port, timeout=CONNECT_TIMEOUT_S)
            self._connection.connect()
            self._connection.sock.settimeout(READ_TIMEOUT_S)
        common = {"Accept-Encoding": "identity", "User-Agent": "citrate", **self._headers}
        self._connection.request("GET", f"{self._base}/ipfs/{path}", headers={**common, **headers})
        return self._connection.getresponse()

    def __del__(self) -> None:
        self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Body:
    """The body of a gateway's answer."""

    def __init__(self, response: http.client.HTTPResponse, drop: Callable[[], None]) -> None:
        self._response = response
        self._drop = drop
        self._left = response.length  # None: chunked, or until the connection ends
        self._count(0)

    def readinto(self, buffer: memoryview) -> int:
        wanted = len(buffer) if self._left is None else min(len(buffer), self._left)
        try:
            piece = self._response.read1(wanted) if wanted else b""  # one receive; readinto would wait for all
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            raise UnansweredError(_reason(error)) from error
        buffer[: len(piece)] = piece
        self._count(len(piece))
        return len(piece)

    def _count(self, length: int) -> None:
        if self._left is not None:
            self._left -= length
            if self._left == 0:
                self._response.close()  # all has come: the connection may be used again

    def close(self) -> None:
        if not self._response.isclosed():  # bytes are left: the connection is of no further use
            self._drop()


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
