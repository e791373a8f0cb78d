"""Fetching from sources that are there, down, slow, or break off: what is handed out is right, or nothing is."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from citrate.core.errors import ConfigError, IntegrityError, StoreError
from citrate.core.records import Artifact
from citrate.registry import unixfs
from citrate.registry.fetching import fetch_artifact, fetch_block, spans
from citrate.registry.sources import GatewaySource, KuboSource, StoreSource, pace, wire
from citrate.registry.store import Store
from tests.fixtures_kubo import KuboNode
from tests.registry.storage.conftest import CHUNK, Serve, pattern
from tests.registry.storage.hostile import Answer, hostile_gateway
from tests.registry.storage.unfetched import assert_untouched

pytestmark = pytest.mark.usefixtures("hurry")
CLOSED = "http://127.0.0.1:1"
WEIGHTS = pattern(3 * CHUNK + 17)


# ------------------------------------------------------------------ honest sources


def test_a_directory_comes_whole_and_only_once(store: Store, artifact: Artifact, url: str) -> None:
    progress: list[tuple[object, ...]] = []
    fetched = fetch_artifact(artifact, store, [GatewaySource(url)], lambda *step: progress.append(step))
    assert (fetched.source, fetched.dropped) == (url, ())
    assert artifact.size_bytes <= fetched.fetched_bytes < artifact.size_bytes + 1000
    assert unixfs.address(fetched.path) == artifact == store.artifact(artifact.cid)
    assert progress[-1][:3] == ("fetch", artifact.size_bytes, artifact.size_bytes)
    assert [step[1] for step in progress] == sorted(step[1] for step in progress)
    assert not (store.root / "partial" / artifact.cid).exists()
    again = fetch_artifact(artifact, store, [GatewaySource(CLOSED)])
    assert (again.source, again.fetched_bytes) == ("store", 0)


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 7 * CHUNK])
def test_a_bare_file_of_any_size(store: Store, publisher: Store, serve: Serve, tmp_path: Path, size: int) -> None:
    (tmp_path / "tiny.gguf").write_bytes(pattern(size))
    artifact = publisher.add(tmp_path / "tiny.gguf")
    fetched = fetch_artifact(artifact, store, [GatewaySource(serve(publisher))])
    assert fetched.path.read_bytes() == pattern(size)
    assert fetched.path.name == "tiny.gguf"


def test_another_store_is_a_source(store: Store, publisher: Store, artifact: Artifact) -> None:
    fetched = fetch_artifact(artifact, store, [StoreSource(publisher, "publisher's store")])
    assert fetched.source == "publisher's store"


def test_what_stands_in_another_object_is_not_fetched(store: Store, artifact: Artifact, url: str, model: Path) -> None:
    fetch_artifact(artifact, store, [GatewaySource(url)])
    (model / "README.md").write_bytes(b"new")
    grown = unixfs.address(model)
    with pytest.raises(StoreError):
        fetch_artifact(grown, store, [GatewaySource(url)])  # the publisher lacks README.md
    other = Store(store.root.parent / "other")
    other.add(model)
    fetched = fetch_artifact(grown, store, [StoreSource(other, "other")])
    assert (fetched.fetched_bytes, set(fetched.source.split(", "))) == (3, {"store", "other"})


def test_a_gateway_that_serves_blocks_only(store: Store, artifact: Artifact, url: str) -> None:
    def refuse_files(answer: Answer) -> None:
        if not answer.is_block:
            answer.status, answer.body, answer.headers = 406, b"trustless only", {}

    with hostile_gateway(url, refuse_files) as gateway:
        fetched = fetch_artifact(artifact, store, [GatewaySource(gateway.url)])
    assert fetched.source == gateway.url
    assert len(gateway.connections) < len(gateway.requests)  # blocks share a connection


@pytest.mark.servers
def test_kubo_is_a_source_by_rpc_and_by_gateway(
    tmp_path: Path, publisher: Store, artifact: Artifact, kubo: KuboNode
) -> None:
    from citrate.registry.kubo import Kubo

    Kubo(kubo.api).push(publisher, artifact.cid)
    by_name = kubo.gateway.replace("127.0.0.1", "localhost")  # which Kubo redirects
    for i, source in enumerate((KuboSource(kubo.api), GatewaySource(kubo.gateway), GatewaySource(by_name))):
        fetched = fetch_artifact(artifact, Store(tmp_path / str(i)), [source])
        assert fetched.source == source.name
        assert unixfs.address(fetched.path) == artifact
        assert fetch_block(artifact.files[1].cid, [source]) == (b'{"a": 1}', source.name)


def test_a_damaged_object_is_mended_and_what_is_right_of_it_is_kept(store: Store, artifact: Artifact, url: str) -> None:
    fetch_artifact(artifact, store, [GatewaySource(url)])
    store.pin(artifact.cid, "mine")
    damaged = store.get(artifact.cid) / "sub" / "weights.bin"
    damaged.chmod(0o644)
    with damaged.open("r+b") as file:
        file.seek(CHUNK + 5)
        file.write(b"!")
    with pytest.raises(IntegrityError):
        fetch_artifact(artifact, store, [])
    with pytest.raises(IntegrityError):
        fetch_artifact(artifact, store, [GatewaySource(CLOSED)])
    fetched = fetch_artifact(artifact, store, [GatewaySource(url)])
    assert unixfs.address(fetched.path) == artifact
    assert fetched.fetched_bytes == CHUNK
    assert store.pins(artifact.cid) == ["mine"]
    assert store.verify() == []
    assert len(list((store.root / "damaged").iterdir())) == 1


# ------------------------------------------------------------------ sources that are not there


def test_without_sources_the_error_says_what_to_name(store: Store, artifact: Artifact) -> None:
    with pytest.raises(StoreError, match="no source to ask") as caught:
        fetch_artifact(artifact, store, [])
    assert "--from" in caught.value.hint
    assert_untouched(store)


def test_every_source_is_named_with_its_reason(store: Store, artifact: Artifact, serve: Serve, tmp_path: Path) -> None:
    empty = serve(Store(tmp_path / "empty"))
    down = KuboSource("/ip4/127.0.0.1/tcp/1")
    with pytest.raises(StoreError) as caught:
        fetch_artifact(artifact, store, [GatewaySource(CLOSED), GatewaySource(empty), down])
    assert f"{CLOSED}: Connection refused" in caught.value.message
    assert f"{empty}: HTTP 404" in caught.value.message
    assert f"{down.name}: Connection refused" in caught.value.message
    assert_untouched(store)
    with pytest.raises(StoreError, match="HTTP 404"):
        fetch_block(artifact.cid, [GatewaySource(empty)])


def test_the_next_source_is_asked(store: Store, artifact: Artifact, url: str) -> None:
    assert fetch_artifact(artifact, store, [GatewaySource(CLOSED), GatewaySource(url)]).source == url


@pytest.mark.parametrize("address", ["", "127.0.0.1:8480", "ftp://host", "http://", "http://host:99999", "http://h/?x"])
def test_a_malformed_gateway_is_a_usage_error(address: str) -> None:
    with pytest.raises(ConfigError):
        GatewaySource(address)


# ------------------------------------------------------------------ sources that break off


def test_a_source_that_breaks_off_again_and_again_still_delivers(store: Store, artifact: Artifact, url: str) -> None:
    def cut(answer: Answer) -> None:
        if not answer.is_block:
            answer.headers["Content-Length"], answer.send = str(len(answer.body)), CHUNK + CHUNK // 2

    with hostile_gateway(url, cut) as gateway:
        fetched = fetch_artifact(artifact, store, [GatewaySource(gateway.url)])
    ranges = [asked for path, asked in gateway.requests if asked]
    assert ranges == [f"bytes={at * CHUNK}-{3 * CHUNK + 16}" for at in (1, 2)]
    assert unixfs.address(fetched.path) == artifact


def test_a_source_that_gives_nothing_more_ends_in_a_bounded_time(store: Store, artifact: Artifact, url: str) -> None:
    def cut(answer: Answer) -> None:
        if len(answer.body) > 2 * CHUNK:
            answer.headers["Content-Length"], answer.send = str(len(answer.body)), CHUNK + 5
        elif len(answer.body) > CHUNK:
            answer.headers["Content-Length"], answer.send = str(len(answer.body)), 5

    with hostile_gateway(url, cut) as gateway, pytest.raises(StoreError, match="no source has"):
        fetch_artifact(artifact, store, [GatewaySource(gateway.url)])
    assert store.ls() == []
    kept = store.root / "partial" / artifact.cid / "sub" / "weights.bin"
    assert kept.read_bytes() == WEIGHTS[: 2 * CHUNK] + bytes(CHUNK) + WEIGHTS[3 * CHUNK :]
    fetched = fetch_artifact(artifact, store, [GatewaySource(url)])
    assert CHUNK <= fetched.fetched_bytes < CHUNK + 1000


def test_a_silent_source_is_left(
    store: Store, publisher: Store, artifact: Artifact, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "SILENT_S", 0.2)
    monkeypatch.setattr(wire, "READ_TIMEOUT_S", 0.2)

    def stall(answer: Answer) -> None:
        answer.pause_s = 30

    with hostile_gateway(url, stall) as gateway:
        started = time.monotonic()
        fetched = fetch_artifact(artifact, store, [GatewaySource(gateway.url), StoreSource(publisher, "good")])
    assert "good" in fetched.source
    assert time.monotonic() - started < 25, "less than one pause of the silent one"


def test_a_dripping_source_is_left(
    store: Store, publisher: Store, artifact: Artifact, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "SILENT_S", 0.2)
    monkeypatch.setattr(pace, "STALL_WINDOW_S", 0.2)
    monkeypatch.setattr(pace, "STALL_BYTES_PER_S", 1 << 20)

    def drip(answer: Answer) -> None:
        answer.pause_s = 0.1

    with hostile_gateway(url, drip) as gateway:
        fetched = fetch_artifact(artifact, store, [GatewaySource(gateway.url), StoreSource(publisher, "good")])
    assert "good" in fetched.source


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_fetch_is_resumed_and_never_visible(
    store: Store, publisher: Store, serve: Serve, tmp_path: Path, blow: signal.Signals
) -> None:
    (tmp_path / "large.bin").write_bytes(pattern(6 * CHUNK))
    artifact, url = publisher.add(tmp_path / "large.bin"), serve(publisher)
    code = (
        "import sys, pickle, time; from pathlib import Path; from citrate.registry.fetching import *;"
        "from citrate.registry.sources import *; from citrate.registry.store import Store;"
        "fetch_artifact(pickle.load(sys.stdin.buffer), Store(Path(sys.argv[1])), [GatewaySource(sys.argv[2])],"
        "lambda *step: (print(*step, flush=True), step[1] < 4 << 20 or time.sleep(60)))"
    )

    def slow(answer: Answer) -> None:
        answer.pause_s = 0.02 if len(answer.body) > CHUNK else 0

    with hostile_gateway(url, slow) as gateway:
        process = subprocess.Popen(
            [sys.executable, "-c", code, store.root, gateway.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(pickle.dumps(artifact))
        process.stdin.close()
        while int(process.stdout.readline().split()[1]) < 4 * CHUNK:
            assert store.ls() == []
        process.send_signal(blow)
        process.stdout.close()
        assert process.wait() != 0
    assert store.ls() == []
    assert not store.has(artifact.cid)
    fetched = fetch_artifact(artifact, store, [GatewaySource(url)])
    assert fetched.fetched_bytes < 4 * CHUNK
    assert unixfs.address(fetched.path) == artifact


def test_what_an_interrupted_fetch_left_is_trusted_for_nothing(store: Store, artifact: Artifact, url: str) -> None:
    partial = store.root / "partial" / artifact.cid / "sub"
    partial.mkdir(parents=True)
    (partial / "weights.bin").write_bytes(WEIGHTS[:CHUNK] + bytes(2 * CHUNK))
    (partial / "planted.py").write_bytes(b"evil")
    (partial.parent / "link").symlink_to("/etc")
    fetched = fetch_artifact(artifact, store, [GatewaySource(url)])
    assert unixfs.address(fetched.path) == artifact
    assert fetched.fetched_bytes < 2 * CHUNK + 1000
