"""Pushing to a real Kubo node, and to things that are none."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from citrate.core.errors import ConfigError, IntegrityError, NotFoundError, StoreError
from citrate.registry import cid as cids
from citrate.registry.cid import Cid
from citrate.registry.kubo import Kubo
from citrate.registry.sources import ByteStream, KuboSource, MissingError, fill
from citrate.registry.sources.cars import dag_request
from citrate.registry.store import Store
from tests.fixtures_kubo import KuboNode
from tests.registry.storage.cars import Dag, take
from tests.registry.storage.conftest import CHUNK, pattern
from tests.registry.storage.elsewhere import elsewhere

ABSENT = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"


NOT_PINNED = b'{"Message":"path \'x\' is not pinned","Code":0,"Type":"error"}\n'


@contextmanager
def answering(status: int, body: bytes, *, pins: bytes = NOT_PINNED, location: str = "") -> Iterator[str]:
    """A server that answers every request the same, but for the question what is pinned; ``location``: where the answer
    sends whoever asks."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = "/pin/ls" in self.path
            if not asked:
                while self.rfile.readline() not in (b"0\r\n", b""):  # the end of a chunked body
                    pass
            answer = pins if asked else body
            self.send_response((500 if pins == NOT_PINNED else 200) if asked else status)
            self.send_header("Content-Length", str(len(answer)))
            self.send_header("Content-Type", "application/json")
            if location and not asked:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def whole(stream: ByteStream) -> bytes:
    buffer = memoryview(bytearray(8 * CHUNK))
    return bytes(buffer[: fill(stream, buffer)])


@pytest.mark.servers
def test_push_copies_pins_and_reports(store: Store, model: Path, kubo: KuboNode) -> None:
    artifact = store.add(model)
    node, steps = Kubo(kubo.api), list[tuple[str, int, int]]()
    node.unpin(artifact.cid)  # the node is everybody's, and another test may have pushed the same model
    node.push(store, artifact.cid, lambda *step: steps.append(step))
    assert steps[-1] == ("push", artifact.size_bytes, artifact.size_bytes)
    assert node.is_pinned(artifact.cid)
    assert artifact.cid in kubo.ipfs("pin", "ls", "--type=recursive")
    weights, size = artifact.files[2].cid, 3 * CHUNK + 17
    assert whole(KuboSource(kubo.api).stream(weights, 0, size, size)) == pattern(size)
    assert whole(KuboSource(kubo.api).stream(weights, 3 * CHUNK, size, size)) == pattern(size)[3 * CHUNK :]
    assert KuboSource(kubo.api).block(artifact.files[1].cid) == b'{"a": 1}'
    assert node.stat(artifact.cid) > artifact.size_bytes
    assert node.push(store, artifact.cid) == 0  # it has it
    assert node.unpin(artifact.cid)
    assert node.push(store, artifact.cid) > artifact.size_bytes  # again
    assert node.unpin(artifact.cid)
    assert not node.unpin(artifact.cid)


@pytest.mark.servers
def test_a_dag_that_is_kept_as_blocks_is_pushed_as_it_is(store: Store, dag: Dag, kubo: KuboNode) -> None:
    inline = Cid(1, cids.RAW, cids.IDENTITY, b"inside its own name")
    leaf = dag.raw(b"leaf")
    root = dag.folder(file=dag.file(b"one ", b"two"), link=dag.symlink(b"file"), doc=dag.json({"a": {"/": str(leaf)}}))
    top = dag.json({"folder": {"/": str(root)}, "inline": {"/": str(inline)}, "twice": {"/": str(leaf)}})
    take(store, dag.car(top))
    node = Kubo(kubo.api)
    assert node.push(store, str(top)) > 0
    assert node.is_pinned(str(top))
    assert kubo.ipfs("cat", f"{root}/file") == "one two"
    assert whole(KuboSource(kubo.api).car(dag_request(str(top)))) == b"".join(store.export_car(str(top)))
    with pytest.raises(MissingError, match="does not have"):
        KuboSource(kubo.api).car(dag_request(ABSENT))


@pytest.mark.servers
def test_a_push_that_was_cut_off_is_repeated_and_complete(
    store: Store, tmp_path: Path, kubo: KuboNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "big").write_bytes(pattern(5 * CHUNK, seed=77))
    cid, export = store.add(tmp_path / "big").cid, store.export_car

    def cut(wanted: str) -> Iterator[bytes]:
        yield from itertools.islice(export(wanted), 3)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "export_car", cut)
    with pytest.raises(KeyboardInterrupt):
        Kubo(kubo.api).push(store, cid)
    monkeypatch.undo()
    assert not Kubo(kubo.api).is_pinned(cid)
    assert Kubo(kubo.api).push(store, cid) > 5 * CHUNK
    assert hashlib.sha256(kubo.ipfs_bytes("cat", cid)).digest() == hashlib.sha256(pattern(5 * CHUNK, seed=77)).digest()


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
    with pytest.raises(MissingError, match="does not have"):
        KuboSource(kubo.api).block(ABSENT)
    with pytest.raises(MissingError, match="does not have"):
        KuboSource(kubo.api).stream(ABSENT, 0, 5, 5)
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


def test_a_node_that_took_fewer_blocks_than_were_sent_fails(store: Store, model: Path) -> None:
    cid = store.add(model).cid
    body = b'{"Root":{"Cid":{"/":"%s"},"PinErrorMsg":""}}\n{"Stats":{"BlockCount":2}}\n' % cid.encode()
    with answering(200, body) as api, pytest.raises(StoreError, match="took 2 of 9 blocks"):
        Kubo(api).push(store, cid)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_push_goes_nowhere_else(store: Store, model: Path, status: int) -> None:
    cid = store.add(model).cid
    refused = pytest.raises(StoreError, match=rf"it redirects \(HTTP {status}\)")
    with elsewhere() as where, answering(status, b"", location=where) as api, refused:
        Kubo(api).push(store, cid)


def test_a_full_disk_at_the_node_says_so_and_what_to_do(store: Store, model: Path) -> None:
    cid = store.add(model).cid
    body = b'{"Message":"import failed at block: write x.data: no space left on device","Code":0,"Type":"error"}\n'
    with answering(500, body) as api, pytest.raises(StoreError, match="no space left") as caught:
        Kubo(api).push(store, cid)
    assert "ipfs repo gc" in caught.value.hint


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"<html>"), (200, b"<html>"), (403, b""), (200, b'[{"Root": 5}]\n'), (200, b'{"Root": {"Cid": 5}}\n'),
        (200, b'{"Stats": {"BlockCount": "x"}}\n'), (301, b""), (500, b"oops"),
    ],
)  # fmt: skip
def test_a_server_that_is_no_kubo_is_refused(store: Store, model: Path, status: int, body: bytes) -> None:
    cid = store.add(model).cid
    with answering(status, body) as api, pytest.raises((StoreError, IntegrityError)) as caught:
        Kubo(api).push(store, cid)
    assert len(caught.value.message) < 400
    with answering(status, body, pins=body) as api, pytest.raises(StoreError, match="no Kubo RPC"):
        Kubo(api).is_pinned(cid)


@pytest.mark.parametrize("api", ["", "localhost", "ftp://x", "/ip4/999/tcp/1", "/bla", "http://h:99999"])
def test_a_malformed_address_is_a_usage_error(api: str) -> None:
    with pytest.raises(ConfigError):
        Kubo(api).version()


def test_importing_the_module_does_not_import_the_client() -> None:
    import subprocess
    import sys

    code = "import citrate.registry.sources, sys; assert not {'ipfshttpclient', 'httpx', 'requests'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
