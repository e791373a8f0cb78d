"""The store as a trustless IPFS gateway: raw blocks, CARs, and plain files with ranges.

Source: https://specs.ipfs.tech/http-gateways/trustless-gateway/ and .../path-gateway/. A client that verifies needs
to trust nothing here; still every block is compared with its CID before it leaves.
"""

from __future__ import annotations

import html
import itertools
import logging
import re
import socket
import urllib.parse
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from citrate.core.errors import CitrateError, FormatError, IntegrityError, NotFoundError, StoreError
from citrate.registry import car, reader
from citrate.registry.paths import Found, find
from citrate.registry.store import Store

DEFAULT_PORT = 8480
PROBE = "bafkqaaa"
"""The CID of nothing at all (identity hash): clients ask for it to see whether a gateway is one."""

_LOG = logging.getLogger("citrate.gateway")
_RAW_TYPE = "application/vnd.ipld.raw"
_CAR_TYPE = "application/vnd.ipld.car"
_TEXT_TYPES = {"json": "application/json", "md": "text/plain; charset=utf-8", "txt": "text/plain; charset=utf-8"}
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_COMMON = {
    "X-Content-Type-Options": "nosniff",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Content-Length, Content-Range, X-Ipfs-Path, X-Ipfs-Roots",
}


def serve(
    store: Store,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    allowed: Callable[[str], bool] | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until the process is told to stop (SIGINT, SIGTERM).

    Args:
        store: what to serve.
        host: address to listen on; anything but loopback makes the store public.
        port: port to listen on; 0 takes a free one.
        allowed: says of an object's CID whether it may be served; None serves all.
        ready: called with the URL as soon as requests are answered.

    Raises:
        StoreError: the address is taken or not ours.
    """
    server, listener = make_server(store, host, port, allowed, ready)
    server.run(sockets=[listener])


def make_server(
    store: Store,
    host: str,
    port: int,
    allowed: Callable[[str], bool] | None = None,
    ready: Callable[[str], None] | None = None,
) -> tuple[uvicorn.Server, socket.socket]:
    """The server behind ``serve`` and its bound socket, not yet running."""
    listener = _bind(host, port)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}"

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        listener.listen(128)
        if ready is not None:
            ready(url)
        yield

    gateway = _Gateway(store, allowed)
    routes = [Route("/ipfs/{path:path}", gateway.answer, methods=["GET", "HEAD"])]
    app = Starlette(routes=routes, lifespan=lifespan)
    config = uvicorn.Config(app, log_level="critical", access_log=False, server_header=False)
    return uvicorn.Server(config), listener


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StoreError(
            f"the gateway cannot listen on {host}:{port}: {reason}", hint="choose another --port, or 0 for a free one"
        ) from error
    return listener


@dataclass(frozen=True)
class _Wanted:
    """A request, parsed."""

    root: str
    path: str
    format: str
    scope: str

    @classmethod
    def parse(cls, request: Request) -> _Wanted:
        raw = request.scope["raw_path"].decode("ascii", "replace").split("?")[0].removeprefix("/ipfs/")
        root, _, path = raw.partition("/")
        try:
            path = urllib.parse.unquote(path, errors="strict")
        except UnicodeDecodeError as error:
            raise FormatError("the path is not UTF-8") from error
        if any(part in (".", "..") for part in path.split("/")):
            raise FormatError("a path must not hold '.' or '..'")
        accept = request.headers.get("accept", "")
        wanted = request.query_params.get("format") or ("raw" if _RAW_TYPE in accept else "")
        wanted = wanted or ("car" if _CAR_TYPE in accept else "")
        version = request.query_params.get("car-version", "1")
        if wanted == "car" and (version != "1" or re.search(r"version=[^1]", accept)):
            raise FormatError("only version 1 of CAR is served")
        scope = request.query_params.get("dag-scope", "all")
        if scope not in ("block", "entity", "all"):
            raise FormatError(f"unknown dag-scope {scope[:40]!r}")
        return cls(root, path, wanted, scope)


class _Gateway:
    """Answers requests from one store."""

    def __init__(self, store: Store, allowed: Callable[[str], bool] | None) -> None:
        self._store = store
        self._allowed = allowed

    def answer(self, request: Request) -> Response:
        """Answer ``/ipfs/CID[/path]``; runs on a thread of Starlette's pool."""
        try:
            response = self._answer(request)
        except NotFoundError as error:
            response = PlainTextResponse(error.message, 404)
        except FormatError as error:
            response = PlainTextResponse(error.message, 400)
        except IntegrityError:
            response = PlainTextResponse("a block is damaged here and was not sent", 500)
        except CitrateError as error:
            response = PlainTextResponse(error.message, 500)
        for name, value in _COMMON.items():
            response.headers.setdefault(name, value)
        return response

    def _answer(self, request: Request) -> Response:
        wanted = _Wanted.parse(request)
        if wanted.root == PROBE and not wanted.path:
            return Response(headers={"Content-Type": _RAW_TYPE, "Etag": f'"{PROBE}.raw"'})
        if wanted.format not in ("", "raw", "car"):
            return PlainTextResponse(f"format {wanted.format[:40]!r} is not served here", 406)
        self._require_allowed(wanted.root)
        found = find(self._store.block, wanted.root, wanted.path)
        if wanted.format == "raw":
            return self._raw(request, wanted, found)
        if wanted.format == "car":
            return self._car(request, wanted, found)
        if found.is_directory:
            return self._listing(request, wanted, found)
        return self._file(request, wanted, found)

    def _require_allowed(self, root: str) -> None:
        owners = self._store.owners(root)
        if not any(self._allowed is None or self._allowed(owner) for owner in owners):
            raise NotFoundError(f"{root} is not served here")

    def _raw(self, request: Request, wanted: _Wanted, found: Found) -> Response:
        block = self._store.block(found.cid)
        headers = _headers(wanted, f'"{found.cid}.raw"', found, _RAW_TYPE, f"{found.cid}.bin")
        return _ranged(request, headers, len(block), lambda start, stop: iter([block[start:stop]]))

    def _car(self, request: Request, wanted: _Wanted, found: Found) -> Response:
        kind = f"{_CAR_TYPE}; version=1; order=dfs; dups=n"
        headers = _headers(wanted, f'W/"{found.cid}.car.{wanted.scope}"', found, kind, f"{found.cid}.car")
        headers["Accept-Ranges"] = "none"
        if _is_known(request, headers):
            return Response(status_code=304, headers=headers)
        pieces = iter(()) if request.method == "HEAD" else self._car_pieces(wanted, found)
        return StreamingResponse(_begun(pieces), headers=headers)

    def _car_pieces(self, wanted: _Wanted, found: Found) -> Iterator[bytes]:
        read = self._store.block
        via = ((cid, read(cid)) for cid in found.via)
        below: Iterable[tuple[str, bytes]]
        if wanted.scope == "block":
            below = [(found.cid, read(found.cid))]
        elif wanted.scope == "entity" and found.is_directory:
            below = reader.directory_blocks(read, found.cid)
        else:
            below = car.walk(found.cid, read)
        yield car.header(wanted.root)
        sent: set[str] = set()
        for cid, block in itertools.chain(via, below):
            if cid not in sent:
                sent.add(cid)
                yield car.frame(cid, block)

    def _file(self, request: Request, wanted: _Wanted, found: Found) -> Response:
        name = wanted.path.rpartition("/")[2]
        kind = _TEXT_TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")
        headers = _headers(wanted, f'"{found.cid}"', found, kind)
        read = self._store.block
        return _ranged(
            request, headers, found.size_bytes, lambda start, stop: reader.content(read, found.cid, start, stop)
        )

    def _listing(self, request: Request, wanted: _Wanted, found: Found) -> Response:
        here = urllib.parse.quote(f"/ipfs/{wanted.root}/{wanted.path}".rstrip("/"))
        rows = "".join(
            f'<li><a href="{here}/{urllib.parse.quote(entry.name, safe="")}">{html.escape(entry.name)}</a>'
            f" <code>{entry.cid}</code></li>\n"
            for entry in reader.entries(self._store.block, found.cid)
        )
        title = html.escape(urllib.parse.unquote(here))
        page = f"<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1>\n<ul>\n{rows}</ul>\n"
        headers = _headers(wanted, f'W/"{found.cid}.html"', found, "text/html; charset=utf-8")
        headers["Content-Security-Policy"] = "default-src 'none'"
        if _is_known(request, headers):
            return Response(status_code=304, headers=headers)
        return Response(page, headers=headers)


def _headers(wanted: _Wanted, etag: str, found: Found, kind: str, attachment: str = "") -> dict[str, str]:
    path = urllib.parse.quote(f"/ipfs/{wanted.root}/{wanted.path}".rstrip("/"))
    passed = [cid for cid in found.via if cid == wanted.root]
    headers = {
        "Content-Type": kind,
        "Etag": etag,
        "Cache-Control": "public, max-age=29030400, immutable",
        "X-Ipfs-Path": path,
        "X-Ipfs-Roots": ",".join(dict.fromkeys([*passed, found.cid])),
    }
    if attachment:
        headers["Content-Disposition"] = f'attachment; filename="{attachment}"'
        query = {"format": attachment.rpartition(".")[2].replace("bin", "raw")}
        if wanted.scope != "all":
            query["dag-scope"] = wanted.scope
        headers["Content-Location"] = f"{path}?{urllib.parse.urlencode(query)}"
    return headers


def _is_known(request: Request, headers: dict[str, str]) -> bool:
    tags = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    return "*" in tags or headers["Etag"].removeprefix("W/") in tags


def _ranged(
    request: Request, headers: dict[str, str], size_bytes: int, read: Callable[[int, int], Iterator[bytes]]
) -> Response:
    """Answer with all bytes, or with the one range that is asked for."""
    headers["Accept-Ranges"] = "bytes"
    if _is_known(request, headers):
        return Response(status_code=304, headers=headers)
    start, stop, status = 0, size_bytes, 200
    asked = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if asked and request.headers.get("if-range", headers["Etag"]) == headers["Etag"] and any(asked.groups()):
        first, last = asked.groups()
        start = int(first) if first else max(0, size_bytes - int(last))
        stop = min(size_bytes, int(last) + 1) if first and last else size_bytes
        if start >= stop:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{size_bytes}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size_bytes}"
        status = 206
    headers["Content-Length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(_begun(read(start, stop)), status, headers)


def _begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
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
