"""Trustless gateways over HTTP."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass

from citrate.core.errors import ConfigError
from citrate.registry.cid import Cid
from citrate.registry.sources.protocol import (
    ByteStream,
    MissingError,
    NoStreamError,
    SourceError,
    UnansweredError,
)
from citrate.registry.sources.wire import Address, Answer, Wire, block_of

_BUSY = (429, 502, 503, 504)
_ABSENT = (404, 410)
_FAR_CONNECTIONS = 4


@dataclass
class _Near:
    """Whether it takes next to no time to connect, as far as anybody knows who uses the source."""

    said: bool = False


class GatewaySource:
    """A trustless IPFS gateway; raw blocks, CARs, and plain files where it serves them.

    Redirects are not followed. One connection is kept open; a thread uses one of its own: ``another``.
    """

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url.rstrip("/"))
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(f"{url!r} is not the address of a gateway", hint="for example http://127.0.0.1:8480")
        try:
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"{url!r} has no valid port", hint="for example http://127.0.0.1:8480") from error
        self._url = url
        self._name = urllib.parse.urlunsplit(parts)
        # Kubo answers the name localhost with a redirect to a subdomain, and an address with the bytes.
        called = f"127.0.0.1:{port or 80}" if parts.hostname == "localhost" else ""
        self._wire = Wire(Address(parts.hostname, port, parts.scheme == "https", called))
        self._near = _Near()
        self._base = urllib.parse.quote(parts.path.removesuffix("/ipfs"), safe="/%:@!$&'()*+,;=~-._")

    @property
    def name(self) -> str:
        return self._name

    @property
    def connections(self) -> int:
        return 1 if self._near.said else _FAR_CONNECTIONS

    def another(self) -> GatewaySource:
        other = GatewaySource(self._url)
        other._near = self._near
        return other

    def stop(self) -> None:
        self._wire.stop()

    def block(self, cid: str) -> bytes:
        answer = self._get(f"{cid}?format=raw", {"Accept": "application/vnd.ipld.raw"})
        if answer.status != 200:
            raise self._refused(answer)
        block = block_of(answer)
        encoding = _encoding(answer)
        if encoding and not Cid.parse(cid).matches(block):  # a proxy's doing, and no lie
            raise MissingError(f"sends blocks with Content-Encoding {encoding[:40]!r}, which nobody asked for")
        return block

    def stream(self, cid: str, offset: int, stop: int, size_bytes: int) -> ByteStream:
        headers = {"Accept": "application/octet-stream, */*;q=0.5"}
        partial = (offset, stop) != (0, size_bytes)
        if partial:
            headers["Range"] = f"bytes={offset}-{stop - 1}"
        answer = self._get(cid, headers)
        if answer.status in _ABSENT or answer.status in _BUSY:
            raise self._refused(answer)
        told = (answer.header("Content-Range") or "").replace("/*", f"/{size_bytes}")
        fits = told == f"bytes {offset}-{stop - 1}/{size_bytes}" if partial else True
        if answer.status != (206 if partial else 200) or not fits or _encoding(answer):
            answer.close()
            shown = f" {told[:100]!r}" if answer.status == 206 else ""
            raise NoStreamError(f"answers HTTP {answer.status}{shown} for a plain file")
        if answer.length not in (None, stop - offset):
            answer.close()
            raise NoStreamError(f"announces {answer.length} bytes, not {stop - offset}")
        return answer

    def car(self, path_and_query: str) -> ByteStream:
        """A CAR, unverified: ``CID[/path]?...`` as the trustless gateway's specification says.

        Raises:
            SourceError: as its subclasses say; ``NoStreamError``: it gives no CARs, or not this one.
        """
        answer = self._get(path_and_query, {"Accept": "application/vnd.ipld.car"})
        if answer.status == 200 and not _encoding(answer):
            return answer
        if answer.status in _ABSENT or answer.status in _BUSY:
            raise self._refused(answer)
        answer.close()
        raise NoStreamError(f"answers HTTP {answer.status} for a CAR")

    @staticmethod
    def _refused(answer: Answer) -> SourceError:
        location = answer.header("Location")
        reason = f"HTTP {answer.status}" + (f", redirects to {location[:200]}" if location else "")
        answer.close()
        return UnansweredError(reason, answer.retry_after_s) if answer.status in _BUSY else MissingError(reason)

    def _get(self, path: str, headers: dict[str, str]) -> Answer:
        answer = self._wire.get(f"{self._base}/ipfs/{path}", headers)
        self._near.said = self._wire.near
        return answer

    def __del__(self) -> None:
        if hasattr(self, "_wire"):
            self._wire.drop()


def _encoding(answer: Answer) -> str:
    """How the body is encoded though it was asked for as it is; empty: it is not."""
    encoding = (answer.header("Content-Encoding") or "").strip()
    return "" if encoding.lower() == "identity" else encoding
