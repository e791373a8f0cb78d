"""A gateway that does not do what it should: a real HTTP server in front of a real gateway."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.registry.storage.elsewhere import elsewhere


@dataclass
class Answer:
    """What the honest gateway answered; hooks change it. ``send``: how many body bytes are really sent."""

    path: str
    status: int
    headers: dict[str, str]
    body: bytes
    send: int | None = None
    pause_s: float = 0.0

    @property
    def is_block(self) -> bool:
        return "format=raw" in self.path


Hook = Callable[[Answer], None]


@dataclass
class Hostile:
    url: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Path and Range header of every request."""
    connections: set[int] = field(default_factory=set)


@contextmanager
def hostile_gateway(upstream: str, hook: Hook) -> Iterator[Hostile]:
    """Serve what ``hook`` makes of the honest gateway's answers; redirects lead to where nobody may go."""
    with elsewhere() as target, _gateway(upstream, hook, target) as seen:
        yield seen


@contextmanager
def _gateway(upstream: str, hook: Hook, elsewhere_url: str) -> Iterator[Hostile]:
    seen = Hostile()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            seen.requests.append((self.path, asked))
            seen.connections.add(self.client_address[1])
            request = urllib.request.Request(upstream + self.path, headers={"Range": asked} if asked else {})
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    answer = Answer(
                        self.path,
                        response.status,
                        {k.title(): v for k, v in response.headers.items() if k.lower() != "content-length"},
                        response.read(),
                    )
            except urllib.error.HTTPError as error:
                answer = Answer(self.path, error.code, {}, error.read())
            hook(answer)
            if 300 <= answer.status < 400:
                answer.headers["Location"] = elsewhere_url
            self._send(answer)

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            declared = answer.headers.get("Content-Length", str(len(answer.body)))
            for name in ("Content-Range", "Location", "Content-Encoding"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.send_header("Content-Length", declared)
            self.end_headers()
            try:
                for at in range(0, len(answer.body[: answer.send]), 65536):
                    self.wfile.write(answer.body[: answer.send][at : at + 65536])
                    if answer.pause_s:
                        stop.wait(answer.pause_s)
            except OSError:
                self.close_connection = True
            if answer.send is not None or int(declared) != len(answer.body):
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            return

    stop = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    seen.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield seen
    finally:
        stop.set()
        server.shutdown()
        thread.join()
        server.server_close()
