"""Answers cut to the range of bytes that was asked for. Source: RFC 9110, section 14."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from citrate.core.errors import CitrateError
from citrate.registry.gateway.request import HttpError

_LOG = logging.getLogger("citrate.gateway")
_RANGE = re.compile(r"\s*(\d*)\s*-\s*(\d*)\s*", re.ASCII)

Content = Callable[[int, int], Iterator[bytes]]
"""The bytes from a start up to an end."""


def ranged(request: Request, headers: dict[str, str], size_bytes: int, read: Content) -> Response:
    """Answer with all bytes, or with the first range that is asked for; other ranges are left out, as Kubo does.

    Raises:
        HttpError: the range is malformed (400) or lies behind the end (416).
    """
    headers["Accept-Ranges"] = "bytes"
    start, stop, status = 0, size_bytes, 200
    asked = request.headers.get("range", "")
    if asked and request.headers.get("if-range", headers["Etag"]) == headers["Etag"]:
        ranges = _ranges(asked, size_bytes)
        if not ranges and size_bytes:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{size_bytes}"})
        if ranges and sum(stop - start for start, stop in ranges) <= size_bytes:  # else they overlap: all of it instead
            start, stop = ranges[0]
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size_bytes}"
            status = 206
    headers["Content-Length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(begun(read(start, stop)), status, headers)


def _ranges(asked: str, size_bytes: int) -> list[tuple[int, int]]:
    """Start and end (excluded) of every range that does not lie behind the end."""
    if not asked.startswith("bytes="):
        raise HttpError(400, "invalid range: the unit is bytes")
    ranges = [_parse(part, size_bytes) for part in asked.removeprefix("bytes=").split(",") if part.strip()]
    return [(start, stop) for start, stop in ranges if start < stop]


def _parse(part: str, size_bytes: int) -> tuple[int, int]:
    found = _RANGE.fullmatch(part)
    if found is None or not any(found.groups()) or len(part) > 60:
        raise HttpError(400, "invalid range")
    first, last = found.groups()
    if not first:
        return max(0, size_bytes - int(last)), size_bytes
    if last and int(last) < int(first):
        raise HttpError(400, "invalid range: it runs backwards")
    return int(first), min(size_bytes, int(last) + 1) if last else size_bytes


def begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Make the first piece before the status is sent, so that damage there is an error and not a torn answer."""
    first = next(pieces, b"")

    def rest() -> Iterator[bytes]:
        yield first
        try:
            yield from pieces
        except CitrateError as error:
            _LOG.error("connection closed: %s", error.message)
            raise  # ends the connection before the announced length: the client cannot take it for the whole

    return rest()
