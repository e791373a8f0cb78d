"""A GET over HTTP/1.1 into the caller's own buffers, in bounded time, that another thread can end.

``http.client`` builds the requests' counterpart: it parses the heads. The bytes are received here, because its own
reading copies each of them once more, waits without a bound for a head that drips, and cannot be ended from outside.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import io
import ipaddress
import socket
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from citrate.registry.dagpb import BLOCK_MAX_BYTES
from citrate.registry.sources.pace import Watch
from citrate.registry.sources.protocol import UnansweredError, fill

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
"""How long a source may be silent."""
HEAD_MAX_BYTES = 64 << 10
_TICK_S = 1.0  # how often a waiting thread looks whether it was stopped
_LINE_MAX_BYTES = 1 << 10
_PIECE_BYTES = 8 << 10
_NEAR_S = 0.002


@dataclass(frozen=True)
class Address:
    """Where a server listens. ``host_header``: what it is to be called; ``socket_path``: of a socket of Unix."""

    host: str
    port: int | None
    secure: bool
    host_header: str = ""
    socket_path: str = ""


class Wire:
    """One connection, opened when needed and kept while the server lets it. For one thread, but for ``stop``."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._rest = b""
        self._stopped = False
        self.near = False
        """Whether it took next to no time to connect: one connection then carries all that the server gives."""

    def get(self, path: str, headers: dict[str, str]) -> Answer:
        """Ask; the answer's head has arrived when this returns.

        Raises:
            UnansweredError: no connection, no answer in time, or no HTTP.
        """
        return self._patiently("GET", path, headers)

    def post(self, path: str) -> Answer:
        """As ``get``, where asking is a ``POST`` without a body, which may be asked twice."""
        return self._patiently("POST", path, {"Content-Length": "0"})

    def _patiently(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        reused = self._socket is not None
        try:
            return self._ask(method, path, headers)
        except (OSError, http.client.HTTPException) as error:
            self.drop()
            if not reused or isinstance(error, TimeoutError):
                raise UnansweredError(reason(error)) from error
        try:  # the server had closed the connection that we kept
            return self._ask(method, path, headers)
        except (OSError, http.client.HTTPException) as error:
            self.drop()
            raise UnansweredError(reason(error)) from error

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        if self._stopped:
            raise UnansweredError("stopped")
        connected = self._socket or self._connect()
        named = self._address.host_header or _host_header(self._address)
        common = {"Host": named, "User-Agent": "citrate", "Accept-Encoding": "identity"}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in {**common, **headers}.items())]
        connected.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        return Answer(self._head(), self)

    def _connect(self) -> socket.socket:
        address = self._address
        began = time.monotonic()
        connected = _opened(address)
        self.near = time.monotonic() - began < _NEAR_S or _is_loopback(connected)
        try:
            if not address.socket_path:
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if address.secure:
                connected = ssl.create_default_context().wrap_socket(connected, server_hostname=address.host)
                connected.settimeout(_TICK_S)
            else:  # the kernel then waits for a whole buffer, at most a tick long
                connected.settimeout(None)
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(_TICK_S))
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(READ_TIMEOUT_S))
        except BaseException:
            connected.close()
            raise
        self._socket, self._rest = connected, b""
        return connected

    def _head(self) -> http.client.HTTPResponse:
        deadline = time.monotonic() + READ_TIMEOUT_S
        head = self._rest
        while (end := head.find(b"\r\n\r\n")) < 0:
            if len(head) > HEAD_MAX_BYTES:
                raise http.client.HTTPException("the answer's head has no end")
            piece = bytearray(_PIECE_BYTES)
            count = self.receive(memoryview(piece), deadline, whole=False)
            if count == 0:
                raise http.client.HTTPException("the connection was closed")
            head += piece[:count]
        self._rest = head[end + 4 :]
        parsed = http.client.HTTPResponse(cast(socket.socket, _Canned(head[: end + 4])))
        parsed.begin()
        return parsed

    def receive(self, buffer: memoryview, deadline: float, *, whole: bool) -> int:
        """Bytes into the front of ``buffer``: all of it if ``whole`` and they come within a tick; 0: the server closed.

        Raises:
            OSError: the connection broke, or nothing had come at ``deadline`` (TimeoutError).
        """
        assert self._socket is not None
        flags = socket.MSG_WAITALL if whole and not self._address.secure else 0
        while True:
            if self._stopped:
                raise OSError("stopped")
            if time.monotonic() > deadline:
                raise TimeoutError
            with contextlib.suppress(BlockingIOError, TimeoutError):  # a tick has passed
                return self._socket.recv_into(buffer, len(buffer), flags)

    def take_rest(self, buffer: memoryview) -> int:
        """Bytes that came with the head, into the front of ``buffer``."""
        count = min(len(buffer), len(self._rest))
        if count:
            buffer[:count] = self._rest[:count]
            self._rest = self._rest[count:]
        return count

    def line(self, deadline: float) -> bytes:
        """A short line of a chunked body.

        Raises:
            OSError, HTTPException: as ``receive``; or it is no short line.
        """
        while (end := self._rest.find(b"\r\n")) < 0:
            piece = bytearray(_PIECE_BYTES)
            count = self.receive(memoryview(piece), deadline, whole=False)
            if count == 0 or len(self._rest) > _LINE_MAX_BYTES:
                raise http.client.HTTPException("a malformed chunk")
            self._rest += piece[:count]
        line, self._rest = self._rest[:end], self._rest[end + 2 :]
        return line

    def done(self, *, keep: bool) -> None:
        """The answer has been read: the connection may be used again, if the server keeps it and sent nothing more."""
        if not keep or self._rest:
            self.drop()

    def drop(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._rest = b""

    def stop(self) -> None:
        """End whatever waits here, now and from now on. From any thread."""
        self._stopped = True
        if (connected := self._socket) is not None:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)


class Answer:
    """A head that has arrived, and the body behind it (``protocol.ByteStream``)."""

    def __init__(self, head: http.client.HTTPResponse, wire: Wire) -> None:
        self.status = head.status
        self.header: Callable[[str], str | None] = head.getheader
        self._wire = wire
        self._chunked = bool(head.chunked)
        self._keep = not head.will_close
        self._left = 0 if self._chunked else head.length  # of the body, or of the chunk; None: until the server closes
        self._first_chunk = True
        self._open = True
        self._watch = Watch()
        if self._left == 0 and not self._chunked:
            self._finish()

    @property
    def length(self) -> int | None:
        """The body's length, where it is announced."""
        return None if self._chunked else self._left

    @property
    def retry_after_s(self) -> float:
        """How long the server asks to wait; 0: it does not say."""
        text = self.header("Retry-After") or ""
        if text.isdecimal():
            return float(text[:9])
        try:
            return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
        except (ValueError, TypeError, OverflowError):
            return 0.0

    def readinto(self, buffer: memoryview) -> int:
        """Bytes into the front of ``buffer``; 0 at the end.

        Raises:
            UnansweredError: the server broke off, nothing had come for ``READ_TIMEOUT_S``, or too little (``Watch``).
        """
        if not self._open or not len(buffer):
            return 0
        began_s = time.monotonic()
        deadline = began_s + READ_TIMEOUT_S
        try:
            if self._chunked and self._left == 0 and not self._next_chunk(deadline):
                return 0
            wanted = buffer if self._left is None else buffer[: min(len(buffer), self._left)]
            count = self._wire.take_rest(wanted) or self._wire.receive(wanted, deadline, whole=self._left is not None)
            self._watch.got(count, time.monotonic() - began_s)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise UnansweredError(reason(error)) from error
        except UnansweredError:
            self.close()
            raise
        self._count(count)
        return count

    def _count(self, count: int) -> None:
        if self._left is None:
            if count == 0:
                self._finish()
            return
        if count == 0:
            self.close()
            raise UnansweredError("broke off")
        self._left -= count
        if self._left == 0 and not self._chunked:
            self._finish()

    def _next_chunk(self, deadline: float) -> bool:
        """Read up to the next chunk's bytes; False at the body's end."""
        if not self._first_chunk and self._wire.line(deadline):
            raise http.client.HTTPException("a malformed chunk")
        self._first_chunk = False
        size = self._wire.line(deadline).split(b";")[0].strip()
        try:
            self._left = int(size, 16) if size and size.isalnum() else -1
        except ValueError:
            self._left = -1
        if self._left < 0:
            raise http.client.HTTPException("a malformed chunk")
        if self._left:
            return True
        trailers = 0
        while self._wire.line(deadline):
            trailers += 1
            if trailers > 100:
                raise http.client.HTTPException("too many trailers")
        self._finish()
        return False

    def _finish(self) -> None:
        self._open = False
        self._wire.done(keep=self._keep)

    def close(self) -> None:
        """Be done with it; what has not been read is lost, and with it the connection."""
        if self._open:
            self._open = False
            self._wire.drop()


def block_of(answer: Answer) -> bytes:
    """The body of an answer that is to be a block, and its end; no more is read than one byte past what a block may
    have, and then what is returned is not what its CID says.

    Raises:
        UnansweredError: the server broke off, or drips.
    """
    announced = BLOCK_MAX_BYTES if answer.length is None else min(BLOCK_MAX_BYTES, answer.length)
    buffer = bytearray(announced + 1)
    length = fill(answer, memoryview(buffer))
    answer.close()
    return bytes(memoryview(buffer)[:length])


class _Canned:
    """As much of a socket as ``http.client`` needs to parse a head."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _opened(address: Address) -> socket.socket:
    if not address.socket_path:
        port = address.port or (443 if address.secure else 80)
        return socket.create_connection((address.host, port), timeout=CONNECT_TIMEOUT_S)
    opened = socket.socket(socket.AF_UNIX)
    try:
        opened.settimeout(CONNECT_TIMEOUT_S)
        opened.connect(address.socket_path)
    except BaseException:
        opened.close()
        raise
    return opened


def _is_loopback(connected: socket.socket) -> bool:
    if connected.family == socket.AF_UNIX:
        return True
    return ipaddress.ip_address(connected.getpeername()[0].partition("%")[0]).is_loopback


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    return struct.pack("ll", whole, round((seconds - whole) * 1e6))


def _host_header(address: Address) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}" if address.port else host


def reason(error: Exception) -> str:
    """Why a connection failed, in a few words."""
    if isinstance(error, TimeoutError):
        return "timed out"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
