"""A pinning service: the Pinning Services API over HTTP, its pins kept by a real Kubo node.

Source: https://ipfs.github.io/pinning-services-api-spec/. ``PinningService`` can be told to misbehave.
"""

from __future__ import annotations

import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fixtures_kubo import KuboNode

TOKEN = "a-token-that-nobody-may-see"
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Pin:
    """One request for a pin."""

    request_id: str
    cid: str
    name: str
    origins: list[str]
    status: str = "queued"

    def document(self, delegates: list[str]) -> dict[str, Any]:
        created = _EPOCH + timedelta(seconds=int(self.request_id))
        return {
            "requestid": self.request_id,
            "status": self.status,
            "created": created.isoformat().replace("+00:00", "Z"),
            "pin": {"cid": self.cid, "name": self.name, "origins": self.origins},
            "delegates": delegates,
        }


@dataclass
class PinningService:
    """What the service knows. ``refusal``: an HTTP status and a reason for every request; ``fate``: the status in which
    every new pin gets stuck."""

    node: KuboNode
    url: str = ""
    refusal: tuple[int, str] | None = None
    fate: str = ""
    pins: dict[str, Pin] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def add(self, body: dict[str, Any]) -> Pin:
        pin = Pin(str(len(self.pins) + 1), body["cid"], body.get("name", ""), body.get("origins") or [])
        self.pins[pin.request_id] = pin
        if self.fate:
            pin.status = self.fate
        else:
            threading.Thread(target=self._carry_out, args=(pin,)).start()
        return pin

    def _carry_out(self, pin: Pin) -> None:
        pin.status = "pinning"
        try:
            for origin in pin.origins:
                self.node.ipfs("swarm", "connect", origin)
            self.node.ipfs("pin", "add", pin.cid)
            pin.status = "pinned"
        except AssertionError:
            pin.status = "failed"

    def ls(self, query: dict[str, list[str]]) -> list[Pin]:
        statuses = set(",".join(query.get("status", ["pinned"])).split(","))
        wanted = set(",".join(query.get("cid", [])).split(",")) - {""}
        return [p for p in self.pins.values() if p.status in statuses and (not wanted or p.cid in wanted)]

    def remove(self, request_id: str) -> None:
        del self.pins[request_id]


@contextmanager
def pinning_service(node: KuboNode) -> Iterator[PinningService]:
    """A service on loopback until the block ends."""
    service = PinningService(node)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            path, _, query = self.path.partition("?")
            service.requests.append(f"{self.command} {path}")
            if service.refusal is not None:
                status, reason = service.refusal
                return self._send(status, {"error": {"reason": reason, "details": "as the test wishes"}})
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self._send(401, {"error": {"reason": "UNAUTHORIZED", "details": "unknown token"}})
            delegates = [service.node.address]
            request_id = path.removeprefix("/pins").strip("/")
            if self.command == "POST":
                return self._send(202, service.add(body).document(delegates))
            if self.command == "DELETE":
                service.remove(request_id)
                return self._send(202, None)
            if request_id:
                return self._send(200, service.pins[request_id].document(delegates))
            found = service.ls(urllib.parse.parse_qs(query))
            return self._send(200, {"count": len(found), "results": [pin.document(delegates) for pin in found]})

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_DELETE(self) -> None:
            self._answer()

        def _send(self, status: int, document: dict[str, Any] | None) -> None:
            data = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            with suppress(OSError):  # who asked has gone
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
