"""Fetching from sources that are down, slow, broken or lying: what is handed out is right, or nothing is."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from citrate.core.errors import ConfigError, IntegrityError, StoreError
from citrate.core.records import Artifact, FileEntry
from citrate.registry import attempts, cid, dag, dagpb, sources, unixfs
from citrate.registry.dagpb import Link
from citrate.registry.fetching import fetch_artifact, fetch_block, spans
from citrate.registry.sources import GatewaySource, KuboSource, StoreSource, pace, wire
from citrate.registry.store import Store
from tests.fixtures_kubo import KuboNode
from tests.registry.storage.conftest import CHUNK, Serve, pattern
from tests.registry.storage.hostile import Answer, Hook, hostile_gateway

CLOSED = "http://127.0.0.1:1"
WEIGHTS = pattern(3 * CHUNK + 17)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "BACKOFF_S", 0.01)


@pytest.fixture
def publisher(tmp_path: Path) -> Store:
    return Store(tmp_path / "publisher")


@pytest.fixture
def artifact(publisher: Store, model: Path) -> Artifact:
    return publisher.add(model)


@pytest.fixture
def url(serve: Serve, publisher: Store) -> str:
    return serve(publisher)


def assert_untouched(store: Store) -> None:
    """Nothing but locks is left of a fetch."""
    assert store.ls() == []
    left = [path for path in store.root.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert [path for path in left if not path.name.startswith("index.sqlite")] == []


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


# ------------------------------------------------------------------ sources that lie


def flip_file(answer: Answer) -> None:
    if len(answer.body) > CHUNK:
        answer.body = answer.body[: CHUNK + 7] + bytes([answer.body[CHUNK + 7] ^ 1]) + answer.body[CHUNK + 8 :]


def flip_small_file(answer: Answer) -> None:
    answer.body = answer.body.replace(b'{"a": 1}', b'{"a": 2}')


def flip_node(answer: Answer) -> None:
    if answer.is_block:
        answer.body = bytes([answer.body[0] ^ 1]) + answer.body[1:]


def another_block(answer: Answer) -> None:
    if answer.is_block:
        answer.body = dagpb.encode([Link(cid.to_bytes(cid.RAW, bytes(32)), b"", 5)], dagpb.file_data([5]))


def ten_times_the_bytes(answer: Answer) -> None:
    answer.body *= 10


def more_than_announced(answer: Answer) -> None:
    answer.headers["Content-Length"] = str(len(answer.body))
    answer.body *= 10


def endless_block(answer: Answer) -> None:
    if answer.is_block:
        answer.body = bytes(8 << 20)


def sorry_page(answer: Answer) -> None:
    answer.body = b"<html>please log in</html>"


def swapped_leaves(answer: Answer) -> None:
    if len(answer.body) > 2 * CHUNK:
        answer.body = answer.body[CHUNK : 2 * CHUNK] + answer.body[:CHUNK] + answer.body[2 * CHUNK :]
    elif len(answer.body) > CHUNK:
        answer.body = answer.body[1:] + answer.body[:1]


LIES = [flip_file, flip_small_file, flip_node, another_block, ten_times_the_bytes, endless_block, sorry_page]


@pytest.mark.parametrize("lie", [*LIES, swapped_leaves])
def test_a_lying_source_is_dropped_and_the_next_one_asked(
    store: Store, artifact: Artifact, url: str, lie: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "SILENT_S", 0.2)
    lied = threading.Event()

    note = attempts.Attempts.lied

    def noting(*told: Any) -> None:
        note(*told)
        lied.set()

    def waiting(_: Answer) -> None:
        assert lied.wait(60)  # so that nothing is left for the liar to be right about

    monkeypatch.setattr(attempts.Attempts, "lied", noting)
    with hostile_gateway(url, lie) as liar, hostile_gateway(url, waiting) as honest:
        fetched = fetch_artifact(artifact, store, [GatewaySource(liar.url), GatewaySource(honest.url)])
    assert unixfs.address(fetched.path) == artifact
    assert fetched.source.endswith(honest.url)
    assert fetched.dropped == (liar.url,)


@pytest.mark.parametrize("lie", LIES)
def test_when_only_a_liar_has_it_nothing_is_kept(store: Store, artifact: Artifact, url: str, lie: Hook) -> None:
    with hostile_gateway(url, lie) as liar, pytest.raises(IntegrityError) as caught:
        fetch_artifact(artifact, store, [GatewaySource(liar.url), GatewaySource(CLOSED)])
    error = caught.value
    assert liar.url in error.message
    assert error.path
    assert error.expected != error.actual
    assert CLOSED in error.hint
    assert_untouched(store)


def test_a_liar_is_not_named_as_the_other_source_that_lacks_it(store: Store, artifact: Artifact, url: str) -> None:
    def fewer_then_other(answer: Answer) -> None:
        if answer.is_block:
            answer.body = answer.body[:-1] + b"!"
        else:
            answer.status = 404

    with hostile_gateway(url, fewer_then_other) as liar, pytest.raises(IntegrityError) as caught:
        fetch_artifact(artifact, store, [GatewaySource(liar.url)])
    assert caught.value.hint == "there is no other source; try --from URL"


def test_a_proxy_that_compresses_blocks_is_of_no_use_and_no_liar(store: Store, artifact: Artifact, url: str) -> None:
    def squeeze(answer: Answer) -> None:
        answer.headers["Content-Encoding"] = "gzip"
        answer.body = gzip.compress(answer.body)

    with hostile_gateway(url, squeeze) as proxy:
        with pytest.raises(StoreError, match="Content-Encoding 'gzip', which nobody asked for"):
            fetch_artifact(artifact, store, [GatewaySource(proxy.url)])
        assert fetch_artifact(artifact, store, [GatewaySource(proxy.url), GatewaySource(url)]).dropped == ()


def test_a_block_that_is_not_its_cid_is_an_integrity_error(artifact: Artifact, url: str) -> None:
    with hostile_gateway(url, flip_small_file) as liar, pytest.raises(IntegrityError) as caught:
        fetch_block(artifact.files[1].cid, [GatewaySource(liar.url)])
    assert caught.value.expected == artifact.files[1].cid
    assert caught.value.actual == cid.of(cid.RAW, b'{"a": 2}')


def wrong_range(answer: Answer) -> None:
    if "Content-Range" in answer.headers:
        answer.headers["Content-Range"] = "bytes 0-9/10"


def ignored_range(answer: Answer) -> None:
    if "Content-Range" in answer.headers:
        answer.status, answer.body = 200, bytes(5)


def redirect(answer: Answer) -> None:
    if not answer.is_block:
        answer.status = 302


def compressed(answer: Answer) -> None:
    if not answer.is_block:
        answer.headers["Content-Encoding"] = "gzip"


def shorter(answer: Answer) -> None:
    if not answer.is_block:
        answer.body = answer.body[:-1]


@pytest.mark.parametrize("oddity", [more_than_announced, wrong_range, ignored_range, redirect, compressed, shorter])
def test_a_source_whose_files_cannot_be_used_is_asked_for_blocks(
    store: Store, artifact: Artifact, url: str, oddity: Hook
) -> None:
    partial = store.root / "partial" / artifact.cid / "sub"
    partial.mkdir(parents=True)
    (partial / "weights.bin").write_bytes(WEIGHTS[:CHUNK])  # so that a range is asked for
    with hostile_gateway(url, oddity) as gateway:
        fetched = fetch_artifact(artifact, store, [GatewaySource(gateway.url)])
    assert unixfs.address(fetched.path) == artifact


# ------------------------------------------------------------------ manifests that lie


def test_parts_that_contradict_each_other_are_refused_before_anything_is_asked(
    store: Store, artifact: Artifact
) -> None:
    weights, config = artifact.files[2], artifact.files[1]

    def with_files(*files: FileEntry) -> Artifact:
        return unixfs.artifact(files, bare=False)

    lies = [
        replace(artifact, cid=config.cid),
        replace(artifact, sha256="0" * 64),
        replace(artifact, size_bytes=5),
        replace(artifact, files=(weights,)),
        replace(artifact, bare=True, files=(weights,)),
        with_files(replace(config, sha256="0" * 64)),
        with_files(replace(config, size_bytes=CHUNK + 1)),
        with_files(replace(weights, size_bytes=CHUNK)),
    ]
    for lie in lies:
        with pytest.raises(IntegrityError):
            fetch_artifact(lie, store, [])
    assert not store.root.exists()


def test_blocks_that_are_right_do_not_excuse_a_wrong_sha256(store: Store, artifact: Artifact, url: str) -> None:
    lie = replace(artifact.files[2], path="weights.bin", sha256="0" * 64)
    expected = Artifact(lie.cid, lie.sha256, lie.size_bytes, (lie,), bare=True)
    with pytest.raises(IntegrityError) as caught:
        fetch_artifact(expected, store, [GatewaySource(url)])
    assert caught.value.actual == hashlib.sha256(WEIGHTS).hexdigest()
    assert_untouched(store)


class Blocks:
    """A source made of given blocks."""

    name = "blocks"
    connections = 1

    def __init__(self, *blocks: bytes) -> None:
        self.blocks = {cid.of(cid.DAG_PB, block): block for block in blocks}
        self.asked = 0

    def another(self) -> Blocks:
        return self

    def stop(self) -> None:
        """It never waits."""

    def block(self, wanted: str) -> bytes:
        self.asked += 1
        if wanted not in self.blocks:
            raise sources.MissingError("absent")
        return self.blocks[wanted]

    def stream(self, *_: object) -> sources.ByteStream:
        raise sources.NoStreamError("blocks only")


def test_a_tree_of_another_profile_is_refused(store: Store) -> None:
    leaf = cid.to_bytes(cid.RAW, hashlib.sha256(b"x" * CHUNK).digest())
    node = dagpb.encode([Link(leaf, b"", CHUNK // 2)] * 4, dagpb.file_data([CHUNK // 2] * 4))
    file = FileEntry("a", 2 * CHUNK, "0" * 64, cid.of(cid.DAG_PB, node))
    with pytest.raises(IntegrityError, match="profile"):
        fetch_artifact(Artifact(file.cid, file.sha256, file.size_bytes, (file,), True), store, [Blocks(node)])
    assert_untouched(store)


def test_a_tree_that_unfolds_to_more_than_the_disk_is_refused_at_once(store: Store) -> None:
    size, blocks = CHUNK, []
    link = Link(cid.to_bytes(cid.RAW, bytes(32)), b"", CHUNK)
    for _ in range(5):  # 2^70 bytes from five blocks
        size *= dag.WIDTH
        node = dagpb.encode([link] * dag.WIDTH, dagpb.file_data([size // dag.WIDTH] * dag.WIDTH))
        link = Link(cid.to_bytes(cid.DAG_PB, hashlib.sha256(node).digest()), b"", dag.file_tsize(size))
        blocks.append(node)
    file = FileEntry("a", size, "0" * 64, cid.of(cid.DAG_PB, blocks[-1]))
    source = Blocks(*blocks)
    with pytest.raises(StoreError, match="no room"):
        fetch_artifact(Artifact(file.cid, file.sha256, size, (file,), True), store, [source])
    assert source.asked == 0
    assert_untouched(store)
