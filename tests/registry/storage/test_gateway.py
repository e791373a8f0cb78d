"""The gateway over real HTTP: what a trustless client, curl and Kubo may rely on."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import signal
import subprocess
import sys
import urllib.parse
from pathlib import Path

import httpx
import pytest

from citrate.core.errors import StoreError
from citrate.core.records import Artifact
from citrate.registry import car, cid, dagpb, gateway
from citrate.registry.store import Store
from tests.fixtures_kubo import KuboNode
from tests.registry.storage.conftest import CHUNK, Serve, pattern

WEIGHTS = pattern(3 * CHUNK + 17)


@pytest.fixture
def artifact(store: Store, model: Path) -> Artifact:
    return store.add(model)


@pytest.fixture
def url(serve: Serve, store: Store, artifact: Artifact) -> str:
    return serve(store) + "/ipfs/"


def blocks_of(data: bytes) -> tuple[str, dict[str, bytes]]:
    """Root and blocks of a CAR, each block compared with its CID."""
    length, at = dagpb.read_varint(data, 0)
    root = cid.encode(*cid.from_bytes(data[at : at + length].partition(b"\xd8\x2a\x58\x25\x00")[2][:36]))
    assert data[:at] + data[at : at + length] == car.header(root)
    at += length
    blocks: dict[str, bytes] = {}
    while at < len(data):
        length, at = dagpb.read_varint(data, at)
        name, block = data[at : at + 36], data[at + 36 : at + length]
        codec, digest = cid.from_bytes(name)
        assert hashlib.sha256(block).digest() == digest
        assert cid.encode(codec, digest) not in blocks
        blocks[cid.encode(codec, digest)] = block
        at += length
    return root, blocks


def test_a_raw_block_by_query_and_by_accept_header(url: str, artifact: Artifact) -> None:
    weights = next(file for file in artifact.files if file.path.endswith("weights.bin"))
    for answer in (
        httpx.get(url + weights.cid + "?format=raw"),
        httpx.get(url + weights.cid, headers={"Accept": "application/vnd.ipld.raw"}),
        httpx.get(url + artifact.cid + "/sub/weights.bin?format=raw"),
    ):
        assert answer.status_code == 200
        assert cid.of(cid.DAG_PB, answer.content) == weights.cid
        assert answer.headers["content-type"] == "application/vnd.ipld.raw"
        assert answer.headers["etag"] == f'"{weights.cid}.raw"'
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-disposition"].startswith(f'attachment; filename="{weights.cid}.bin"')


def test_a_plain_file_and_its_ranges(url: str, artifact: Artifact) -> None:
    path = url + artifact.cid + "/sub/weights.bin"
    whole = httpx.get(path)
    assert whole.content == WEIGHTS
    assert whole.headers["content-length"] == str(len(WEIGHTS))
    assert whole.headers["x-ipfs-path"] == urllib.parse.urlsplit(path).path
    for asked, expected in {
        "bytes=0-0": WEIGHTS[:1],
        f"bytes={CHUNK - 1}-{CHUNK + 1}": WEIGHTS[CHUNK - 1 : CHUNK + 2],
        "bytes=-5": WEIGHTS[-5:],
        f"bytes={2 * CHUNK}-": WEIGHTS[2 * CHUNK :],
        f"bytes=10-{10 * CHUNK}": WEIGHTS[10:],
    }.items():
        answer = httpx.get(path, headers={"Range": asked})
        assert (answer.status_code, answer.content) == (206, expected)
    wrong = httpx.get(path, headers={"Range": f"bytes={4 * CHUNK}-"})
    assert (wrong.status_code, wrong.headers["content-range"]) == (416, f"bytes */{len(WEIGHTS)}")


def test_a_request_in_absolute_form_is_answered(url: str, artifact: Artifact) -> None:
    with contextlib.closing(http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=30)) as connection:

        def asked(target: str) -> tuple[int, bytes]:
            connection.request("GET", target)
            answer = connection.getresponse()
            return answer.status, answer.read()

        assert asked(f"{url}{artifact.cid}/config.json") == (200, b'{"a": 1}')
        assert asked(f"HTTP://another.example/ipfs/{artifact.cid}/config.json") == (200, b'{"a": 1}')
        providers = asked(f"http://models.example:99/routing/v1/providers/{artifact.cid}")[1]
        assert b"/dns/models.example/tcp/99/http" in providers
        assert asked("http://models.example")[0] == 404


def test_head_sends_the_headers_alone(url: str, artifact: Artifact) -> None:
    for path in ("/sub/weights.bin", "/config.json?format=raw", "?format=car", "/"):
        got, head = httpx.get(url + artifact.cid + path), httpx.head(url + artifact.cid + path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["etag"] == got.headers["etag"]
        if path in ("/sub/weights.bin", "/config.json?format=raw"):  # what is made while it is sent has no length
            assert head.headers.get("content-length") == got.headers.get("content-length")


def test_a_known_etag_is_not_sent_again(url: str, artifact: Artifact) -> None:
    for path in ("/config.json", "?format=car", "/", "/config.json?format=raw"):
        etag = httpx.get(url + artifact.cid + path).headers["etag"]
        assert httpx.get(url + artifact.cid + path, headers={"If-None-Match": etag}).status_code == 304


@pytest.mark.parametrize(("scope", "count"), [("all", 8), ("", 8), ("entity", 1), ("block", 1)])
def test_a_car_holds_the_blocks_of_its_scope(url: str, artifact: Artifact, scope: str, count: int) -> None:
    query = "?format=car" + (f"&dag-scope={scope}" if scope else "")
    answer = httpx.get(url + artifact.cid + query)
    assert answer.headers["content-type"] == "application/vnd.ipld.car; version=1; order=dfs; dups=n"
    root, blocks = blocks_of(answer.content)
    assert root == artifact.cid == next(iter(blocks))
    assert len(blocks) == count + (scope in ("all", ""))  # root, sub, file root, 4 leaves, .hidden, config.json


def test_a_car_of_a_path_proves_the_path(url: str, artifact: Artifact) -> None:
    root, blocks = blocks_of(httpx.get(url + artifact.cid + "/sub/weights.bin?format=car&dag-scope=entity").content)
    assert root == list(blocks)[2]  # the file, so that a node which pins the root needs nothing else
    assert next(iter(blocks)) == artifact.cid
    assert len(blocks) == 2 + 1 + 4


def test_the_probe_answers(url: str) -> None:
    answer = httpx.get(url + "bafkqaaa?format=raw")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "application/vnd.ipld.raw"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e", 404),
        ("{root}/absent", 404),
        ("{root}/config.json/below", 404),
        ("nonsense", 400),
        ("{root}/%2e%2e/config.json", 400),
        ("{root}/%ff", 400),
        ("{root}?format=car&dag-scope=everything", 400),
        ("{root}?format=car&car-version=2", 400),
        ("{root}?format=tar", 406),
    ],
)
def test_what_cannot_be_served_says_so(url: str, artifact: Artifact, path: str, status: int) -> None:
    assert httpx.get(url + path.format(root=artifact.cid)).status_code == status


def test_a_listing_escapes_names(serve: Serve, store: Store, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "<script>&.txt").write_bytes(b"x")
    artifact = store.add(tmp_path / "m")
    answer = httpx.get(f"{serve(store)}/ipfs/{artifact.cid}/")
    assert "<script>" not in answer.text
    assert "%3Cscript%3E%26.txt" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_pages_are_shown_and_can_run_nothing(serve: Serve, store: Store, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a.html").write_bytes(b"<script>")
    artifact = store.add(tmp_path / "m")
    answer = httpx.get(f"{serve(store)}/ipfs/{artifact.cid}/a.html")
    assert answer.headers["content-type"] == "text/html"
    assert answer.headers["content-security-policy"] == "sandbox"


def test_only_what_is_allowed_is_served(serve: Serve, store: Store, artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "draft").write_bytes(b"not published")
    draft = store.add(tmp_path / "draft")
    url = serve(store, lambda root: root == artifact.cid) + "/ipfs/"
    assert httpx.get(url + artifact.cid + "/config.json").status_code == 200
    assert httpx.get(url + artifact.files[1].cid).status_code == 200  # a block of an allowed object
    assert httpx.get(url + draft.cid).status_code == 404
    assert httpx.get(url + draft.cid + "?format=raw").status_code == 404


def test_a_damaged_block_never_leaves(serve: Serve, store: Store, model: Path) -> None:
    artifact = store.add(model)
    stored = store.get(artifact.cid) / "sub" / "weights.bin"
    stored.chmod(0o644)
    with stored.open("r+b") as file:
        file.seek(CHUNK + 5)
        file.write(b"!")
    url = f"{serve(store)}/ipfs/{artifact.cid}/sub/weights.bin"
    assert httpx.get(url, headers={"Range": f"bytes={CHUNK}-"}).status_code == 500
    assert httpx.get(url, headers={"Range": f"bytes=0-{CHUNK - 1}"}).content == WEIGHTS[:CHUNK]
    with pytest.raises(httpx.RemoteProtocolError), httpx.stream("GET", url) as answer:
        received = b""
        for piece in answer.iter_raw():
            received += piece
    assert WEIGHTS.startswith(received[:CHUNK])


def test_curl_gets_the_file(url: str, artifact: Artifact, tmp_path: Path) -> None:
    out = tmp_path / "out"
    subprocess.run(["curl", "-sf", "-o", out, f"{url}{artifact.cid}/sub/weights.bin"], check=True, timeout=30)
    assert out.read_bytes() == WEIGHTS


@pytest.mark.servers
def test_kubo_imports_our_car_and_gives_the_same_files(url: str, artifact: Artifact, kubo: KuboNode) -> None:
    data = httpx.get(url + artifact.cid, headers={"Accept": "application/vnd.ipld.car"}).content
    report = kubo.ipfs("dag", "import", "--pin-roots", stdin=data)
    assert artifact.cid in report
    for file in artifact.files:
        served = httpx.get(f"{url}{artifact.cid}/{file.path}").content
        assert httpx.get(f"{kubo.gateway}/ipfs/{artifact.cid}/{file.path}").content == served
        assert hashlib.sha256(served).hexdigest() == file.sha256


@pytest.mark.servers
def test_a_hamt_directory_is_walked_and_imported(serve: Serve, store: Store, kubo: KuboNode, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for i in range(5000):
        (many / f"{i:011d}").write_bytes(b"%d" % i)
    artifact = store.add(many)
    url = f"{serve(store)}/ipfs/{artifact.cid}"
    assert httpx.get(f"{url}/{4321:011d}").content == b"4321"
    assert httpx.get(f"{url}/absent").status_code == 404
    assert httpx.get(url + "/").text.count("ipfs-hash") == 5000
    shards = blocks_of(httpx.get(url + "?format=car&dag-scope=entity").content)[1]
    assert 200 < len(shards) < 5000
    kubo.ipfs("dag", "import", stdin=httpx.get(url + "?format=car", timeout=60).content)
    assert kubo.ipfs("cat", f"{artifact.cid}/{77:011d}") == "77"


def test_serve_prints_its_address_and_ends_on_a_signal(store: Store, artifact: Artifact) -> None:
    code = (
        "import sys, pathlib; from citrate.registry.gateway import serve; from citrate.registry.store import Store;"
        "serve(Store(pathlib.Path(sys.argv[1])), '127.0.0.1', 0, None, lambda url: print(url, flush=True))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, store.root], stdout=subprocess.PIPE, env=os.environ)
    assert process.stdout is not None
    url = process.stdout.readline().decode().strip()
    try:
        assert httpx.get(f"{url}/ipfs/{artifact.cid}/config.json").content == b'{"a": 1}'
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        process.stdout.close()


def test_a_taken_port_is_an_error_with_a_hint(store: Store, serve: Serve) -> None:
    port = int(serve(store).rpartition(":")[2])
    with pytest.raises(StoreError, match="cannot listen") as caught:
        gateway.serve(store, "127.0.0.1", port)
    assert "--port" in caught.value.hint
