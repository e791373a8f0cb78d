"""A real HTTP server in front of a real node, which changes what passes: how a bad RPC provider behaves."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Change = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
"""Given a request and the node's answer to it, the answer that is passed on."""


class QuietHandler(BaseHTTPRequestHandler):
    """Keeps connections and logs nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def proxy(target: str, change: Change) -> Iterator[str]:
    """Serve ``target`` on another port, every single answer passed through ``change``; yields the URL."""

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked = json.loads(body)
            forwarded = urllib.request.Request(target, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(forwarded, timeout=60) as response:
                answered = json.load(response)
            if isinstance(asked, list):
                by_id = {answer["id"]: answer for answer in answered}
                answered = [change(request, by_id[request["id"]]) for request in asked]
            else:
                answered = change(asked, answered)
            respond(self, 200, json.dumps(answered).encode())

    with serving(Handler) as url:
        yield url


@contextmanager
def saying(status: int, body: bytes, headers: dict[str, str] | None = None) -> Iterator[str]:
    """A server that answers every request alike; yields the URL."""

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            respond(self, status, body, headers or {})

    with serving(Handler) as url:
        yield url


def respond(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
