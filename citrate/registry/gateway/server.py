"""The HTTP server in front of the gateway: where it listens, and how it starts and ends."""

from __future__ import annotations

import socket
import urllib.parse
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from citrate.core.errors import StoreError
from citrate.registry.gateway.handler import Allowed, Handler
from citrate.registry.store import Store

DEFAULT_PORT = 8480


def serve(
    store: Store,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    allowed: Allowed | None = None,
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
    allowed: Allowed | None = None,
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

    handler = Handler(store, allowed)
    routes = [
        Route("/ipfs/{path:path}", handler.answer, methods=["GET", "HEAD", "OPTIONS"]),
        Route("/routing/v1/providers/{cid}", handler.providers, methods=["GET"]),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    config = uvicorn.Config(_origin_form(app), log_level="critical", access_log=False, server_header=False)
    return uvicorn.Server(config), listener


def _origin_form(app: ASGIApp) -> ASGIApp:
    """Take requests in absolute form, too: ``GET http://host/ipfs/...``, whose host then goes before the header's.

    Source: RFC 9112, section 3.2.2.
    """

    async def taken(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["raw_path"].lower().startswith((b"http://", b"https://")):
            host, _, path = scope["raw_path"].split(b"//", 1)[1].partition(b"/")
            headers = [(b"host", host), *(header for header in scope["headers"] if header[0] != b"host")]
            raw = b"/" + path
            scope = {**scope, "raw_path": raw, "path": urllib.parse.unquote(raw.decode("ascii")), "headers": headers}
        await app(scope, receive, send)

    return taken


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # naming TCP makes asyncio switch Nagle's algorithm off; with it, every small answer waits 40 ms
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
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
