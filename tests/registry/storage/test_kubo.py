"""Pushing to a real Kubo node, and to things that are none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from citrate.core.errors import ConfigError, IntegrityError, NotFoundError, StoreError
from citrate.registry.kubo import Kubo
from citrate.registry.store import Store
from tests.fixtures_kubo import KuboNode
from tests.registry.storage.conftest import CHUNK, pattern

ABSENT = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that answers every request the same."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            while self.rfile.readline() not in (b"0\r\n", b""):  # the end of a chunked body
                pass
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.servers
def test_push_copies_pins_and_reports(store: Store, model: Path, kubo: KuboNode) -> None:
    artifact = store.add(model)
    node, steps = Kubo(kubo.api), list[tuple[str, int, int]]()
    node.push(store, artifact.cid, lambda *step: steps.append(step))
    assert steps[-1] == ("push", artifact.size_bytes, artifact.size_bytes)
    assert node.is_pinned(artifact.cid)
    assert artifact.cid in kubo.ipfs("pin", "ls", "--type=recursive")
    assert b"".join(node.cat(artifact.files[2].cid)) == pattern(3 * CHUNK + 17)
    assert b"".join(node.cat(artifact.files[2].cid, 3 * CHUNK)) == pattern(3 * CHUNK + 17)[3 * CHUNK :]
    assert node.block(artifact.files[1].cid) == b'{"a": 1}'
    assert node.stat(artifact.cid) > artifact.size_bytes
    node.push(store, artifact.cid)  # again


@pytest.mark.servers
def test_our_cid_is_the_one_that_kubo_computes(store: Store, tmp_path: Path, kubo: KuboNode) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(pattern(2 * CHUNK + 1))
    assert Kubo(kubo.api).add_only_hash(path) == store.add(path).cid


@pytest.mark.servers
def test_a_node_is_named_by_multiaddr_or_url(kubo: KuboNode) -> None:
    port = kubo.api.rpartition("/")[2]
    for api in (kubo.api, f"http://127.0.0.1:{port}", f"http://localhost:{port}/"):
        assert Kubo(api).version().startswith("0.")


@pytest.mark.servers
def test_what_the_node_lacks_is_not_found(store: Store, kubo: KuboNode) -> None:
    with pytest.raises(NotFoundError):
        Kubo(kubo.api).block(ABSENT)
    with pytest.raises(NotFoundError):
        Kubo(kubo.api).cat(ABSENT)
    with pytest.raises(NotFoundError):
        Kubo(kubo.api).push(store, ABSENT)
    assert not Kubo(kubo.api).is_pinned(ABSENT)


@pytest.mark.servers
def test_a_damaged_object_is_not_pushed(store: Store, model: Path, kubo: KuboNode) -> None:
    (model / "only-here").write_bytes(b"only here")
    artifact = store.add(model)
    damaged = store.get(artifact.cid) / "sub" / "weights.bin"
    damaged.chmod(0o644)
    damaged.write_bytes(bytes(3 * CHUNK + 17))
    with pytest.raises(IntegrityError):
        Kubo(kubo.api).push(store, artifact.cid)
    assert not Kubo(kubo.api).is_pinned(artifact.cid)


def test_a_node_that_is_down_says_how_to_start_it(store: Store, model: Path) -> None:
    cid = store.add(model).cid
    with pytest.raises(StoreError, match="does not answer") as caught:
        Kubo("/ip4/127.0.0.1/tcp/1").push(store, cid)
    assert "ipfs daemon" in caught.value.hint


@pytest.mark.parametrize(
    "body",
    [b'{"Root":{"Cid":{"/":"%s"},"PinErrorMsg":""}}\n' % ABSENT.encode(), b"", b'{"Stats":{"BlockCount":1}}\n'],
)
def test_another_root_than_was_sent_fails_closed(store: Store, model: Path, body: bytes) -> None:
    cid = store.add(model).cid
    with answering(200, body) as api, pytest.raises(IntegrityError) as caught:
        Kubo(api).push(store, cid)
    assert caught.value.expected == cid


def test_a_pin_that_failed_is_a_failure(store: Store, model: Path) -> None:
    cid = store.add(model).cid
    body = b'{"Root":{"Cid":{"/":"%s"},"PinErrorMsg":"no space"}}\n' % cid.encode()
    with answering(200, body) as api, pytest.raises(StoreError, match="no space"):
        Kubo(api).push(store, cid)


def test_a_server_that_is_no_kubo_is_refused(store: Store, model: Path) -> None:
    cid = store.add(model).cid
    for status, body in ((404, b"<html>"), (200, b"<html>"), (403, b"")):
        with answering(status, body) as api, pytest.raises(StoreError):
            Kubo(api).push(store, cid)


@pytest.mark.parametrize("api", ["", "localhost", "ftp://x", "/ip4/999/tcp/1", "/bla", "http://h:99999"])
def test_a_malformed_address_is_a_usage_error(api: str) -> None:
    with pytest.raises(ConfigError):
        Kubo(api).version()


def test_importing_the_module_does_not_import_the_client() -> None:
    import subprocess
    import sys

    code = "import citrate.registry.sources, sys; assert not {'ipfshttpclient', 'httpx', 'requests'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
