"""JSON-RPC over HTTP with the standard library: one kept connection, batches, bounded answers.

Reading the chain goes through here, because importing web3 takes longer than a whole `resolve`. What a node answers
is not trusted: the answer's size is bounded, its ids must be ours, and a failure of any kind is a ``ChainError``.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from citrate.core.canonical import Json
from citrate.core.errors import ChainError, ConfigError

Call: TypeAlias = tuple[str, list[Json]]
"""A method and its parameters."""

_MAX_ANSWER_BYTES = 64 << 20
_RATE_LIMIT_PAUSES_S = (0.5, 1.5)


class RpcError(ChainError):
    """The node answered with an error: ``code``, and ``data``, which holds a revert's arguments."""

    def __init__(self, method: str, code: int, text: str, data: str = "") -> None:
        super().__init__(f"the node refused {method}: {text}", hint="see citrate config show for the rpc_url in use")
        self.code = code
        self.text = text
        self.data = data

    @property
    def is_revert(self) -> bool:
        """Whether the contract refused the call, rather than the node."""
        return self.code == 3 or self.data.startswith("0x") or "revert" in self.text.lower()


@dataclass(frozen=True)
class _Endpoint:
    """Where to connect and what to ask for; ``tunnel`` is the host behind a proxy."""

    secure: bool
    host: str
    port: int
    path: str
    tunnel: tuple[str, int] | None = None


class JsonRpc:
    """One node. Safe to share between threads; calls wait for each other."""

    def __init__(self, url: str, *, timeout_s: float = 20.0) -> None:
        self.url = url
        self._endpoint = _endpoint(url)
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None
        self._lock = threading.Lock()

    def call(self, method: str, *params: Json) -> Json:
        """Call one method.

        Raises:
            RpcError: the node answered with an error.
            ChainError: it did not answer, or with something else than JSON-RPC.
        """
        answer = self._exchange({"jsonrpc": "2.0", "id": 0, "method": method, "params": list(params)})
        outcome = self._outcome(method, answer, 0)
        if isinstance(outcome, RpcError):
            raise outcome
        return outcome

    def batch(self, calls: Sequence[Call]) -> list[Json | RpcError]:
        """Call several methods in one round trip; one by one where a node takes no batches.

        Returns:
            For each call its result, or the error that the node answered it with.

        Raises:
            ChainError: see ``call``; also an answer that is missing.
        """
        body: list[Json] = [
            {"jsonrpc": "2.0", "id": i, "method": method, "params": params} for i, (method, params) in enumerate(calls)
        ]
        answers = self._exchange(body) if calls else []
        if isinstance(answers, dict):
            return [self._outcome(calls[i][0], self._exchange(single), i) for i, single in enumerate(body)]
        if not isinstance(answers, list):
            raise self._nonsense("a batch was answered with neither a list nor an error")
        by_id = {str(answer.get("id")): answer for answer in answers if isinstance(answer, dict)}
        return [self._outcome(method, by_id.get(str(i)), i) for i, (method, _) in enumerate(calls)]

    def close(self) -> None:
        """Close the kept connection; the next call opens another."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _outcome(self, method: str, answer: Json, expected_id: int) -> Json | RpcError:
        if not isinstance(answer, dict) or answer.get("id") not in (expected_id, None):
            raise self._nonsense(f"no answer to {method}")
        error = answer.get("error")
        if isinstance(error, dict):
            return _rpc_error(method, error)
        if "result" not in answer:
            raise self._nonsense(f"an answer to {method} without a result")
        return answer["result"]

    def _exchange(self, body: Json) -> Json:
        data = json.dumps(body).encode()
        for pause_s in (*_RATE_LIMIT_PAUSES_S, None):
            status, answer = self._post(data)
            if status != http.client.TOO_MANY_REQUESTS or pause_s is None:
                break
            time.sleep(pause_s)
        if status == http.client.TOO_MANY_REQUESTS:
            raise ChainError(
                f"{self._where} limits the rate of requests (HTTP 429)", hint="wait, or set another rpc_url"
            )
        try:
            return json.loads(answer)  # type: ignore[no-any-return]  # what json.loads can return is exactly Json
        except (ValueError, RecursionError) as error:
            raise self._nonsense(f"HTTP {status}, and no JSON") from error

    def _post(self, data: bytes) -> tuple[int, bytes]:
        with self._lock:
            reused = self._connection is not None
            try:
                return self._send(data)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                # A kept connection may have been closed by the other side meanwhile; a fresh one may not.
                stale = reused and isinstance(error, ConnectionError | http.client.RemoteDisconnected | BrokenPipeError)
                if not stale:
                    raise self._silent(error) from error
            try:
                return self._send(data)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                raise self._silent(error) from error

    def _send(self, data: bytes) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = self._connect()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(data))}
        self._connection.request("POST", self._endpoint.path, data, headers)
        response = self._connection.getresponse()
        answer = response.read(_MAX_ANSWER_BYTES + 1)
        if len(answer) > _MAX_ANSWER_BYTES:
            self.close()
            raise self._nonsense(f"more than {_MAX_ANSWER_BYTES} bytes")
        return response.status, answer

    def _connect(self) -> http.client.HTTPConnection:
        at = self._endpoint
        if not at.secure:
            connection = http.client.HTTPConnection(at.host, at.port, timeout=self._timeout_s)
        else:
            import ssl

            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(at.host, at.port, timeout=self._timeout_s, context=context)
        if at.tunnel:
            connection.set_tunnel(*at.tunnel)
        connection.connect()
        with contextlib.suppress(OSError):
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    @property
    def _where(self) -> str:
        """The node without path and credentials: providers put keys into their URLs."""
        return redacted(self.url)

    def _silent(self, error: Exception) -> ChainError:
        why = "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        return ChainError(f"the chain does not answer at {self._where}: {why}", hint=_unreachable_hint(self.url))

    def _nonsense(self, what: str) -> ChainError:
        return ChainError(f"{self._where} does not speak JSON-RPC: {what}", hint="check rpc_url: citrate config show")


def is_loopback(url: str) -> bool:
    """Whether ``url`` names this machine by its loopback interface."""
    return urllib.parse.urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")


def redacted(url: str) -> str:
    """``url`` without credentials, path and query, fit to be shown."""
    parts = urllib.parse.urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}"


def quantity(value: Json | RpcError) -> int:
    """Decode a JSON-RPC quantity (``0x1a``).

    Raises:
        ChainError: it is none, or an error.
    """
    if isinstance(value, RpcError):
        raise value
    try:
        return int(value, 16)  # type: ignore[arg-type]  # anything but a string is caught below
    except (TypeError, ValueError) as error:
        raise ChainError(
            f"the node answered {str(value)[:80]!r} where a number was due", hint="check rpc_url"
        ) from error


def unhex(value: Json | RpcError) -> bytes:
    """Decode JSON-RPC bytes (``0x00ff``).

    Raises:
        ChainError: they are none, or an error.
    """
    if isinstance(value, RpcError):
        raise value
    try:
        return bytes.fromhex(value.removeprefix("0x"))  # type: ignore[union-attr]  # caught below
    except (AttributeError, ValueError) as error:
        raise ChainError(f"the node answered {str(value)[:80]!r}, not bytes", hint="check rpc_url") from error


def _unreachable_hint(url: str) -> str:
    return "citrate devnet up" if is_loopback(url) else "check rpc_url (citrate config show) and the network"


def _rpc_error(method: str, error: dict[str, Json]) -> RpcError:
    code, text, data = error.get("code"), error.get("message"), error.get("data")
    if isinstance(data, dict):  # some nodes wrap the bytes once more
        data = data.get("data")
    return RpcError(
        method,
        code if isinstance(code, int) else 0,
        (text if isinstance(text, str) else "unknown error")[:400],
        data if isinstance(data, str) else "",
    )


def _endpoint(url: str) -> _Endpoint:
    parts = urllib.parse.urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise ConfigError(
            f"rpc_url {redacted_or_raw(url)!r} is not an http(s) address", hint="write it as https://host"
        )
    secure = parts.scheme == "https"
    port = port or (443 if secure else 80)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not is_loopback(url) and not urllib.request.proxy_bypass(parts.hostname):
        through = urllib.parse.urlsplit(proxy)
        return _Endpoint(secure, through.hostname or "", through.port or 3128, path, (parts.hostname, port))
    return _Endpoint(secure, parts.hostname, port, path)


def redacted_or_raw(url: str) -> str:
    """What can be shown of a malformed URL: nothing after its scheme, where a key may stand."""
    return url.split("://", 1)[0] + "://..." if "://" in url else url
