"""A server that answers as no gateway should, byte by byte as a test wants it: real sockets, no HTTP library."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from citrate.registry.store import Store
from tests.registry.storage.elsewhere import elsewhere


@dataclass(frozen=True)
class Asked:
    """One request. ``start`` and ``stop``: the range of it; a block where ``raw``."""

    cid: str
    raw: bool
    start: int
    stop: int | None


@dataclass
class Wild:
    """A running server, and what it was asked and has sent."""

    url: str = ""
    elsewhere: str = ""
    """Where redirects lead to, and nobody may go."""
    asked: list[Asked] = field(default_factory=list)
    sent_bytes: int = 0
    over: threading.Event = field(default_factory=threading.Event)


Answer = Callable[[Asked, bytes, socket.socket, Wild], None]
"""Called with the request, the right bytes, the connection, and the server; returning closes the connection."""


@contextlib.contextmanager
def wild_gateway(store: Store, answer: Answer) -> Iterator[Wild]:
    """Serve a store: blocks of inner nodes as they are, everything else as ``answer`` does."""
    with elsewhere() as target, _serving(store, answer, Wild(elsewhere=target)) as wild:
        yield wild


@contextlib.contextmanager
def _serving(store: Store, answer: Answer, wild: Wild) -> Iterator[Wild]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    wild.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_talk, args=(connection, store, answer, wild), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield wild
    finally:
        wild.over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _talk(connection: socket.socket, store: Store, answer: Answer, wild: Wild) -> None:
    with connection, contextlib.suppress(OSError):
        while (head := _head(connection)) is not None:
            asked = _parse(head)
            wild.asked.append(asked)
            right = store.block(asked.cid) if asked.raw else b"".join(store.cat(asked.cid))
            if asked.raw and not asked.cid.startswith("bafkrei"):
                connection.sendall(plain(right))
                continue
            right = right[asked.start : asked.stop]
            answer(asked, right, connection, wild)
            wild.sent_bytes += len(right)
            return


def _head(connection: socket.socket) -> bytes | None:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(4096)
        if not piece:
            return None
        head += piece
    return head


def _parse(head: bytes) -> Asked:
    lines = head.decode().split("\r\n")
    path = lines[0].split()[1]
    cid, _, query = path.removeprefix("/ipfs/").partition("?")
    start, stop = 0, None
    for line in lines[1:]:
        if line.lower().startswith("range: bytes="):
            first, last = line.split("=")[1].split("-")
            start, stop = int(first), int(last) + 1
    return Asked(cid, "format=raw" in query, start, stop)


def plain(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    """A whole answer; ``length`` is announced instead of the right one."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def fitting(asked: Asked, body: bytes, size: int) -> bytes:
    """The right answer to a request for a file of this size, whatever ``body`` is."""
    if asked.stop is None:
        return plain(body)
    told = f"Content-Range: bytes {asked.start}-{asked.stop - 1}/{size}"
    return plain(body, "206 Partial Content", told)


def reset(connection: socket.socket) -> None:
    """Close with a reset, as a crashed machine does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
