"""Fetching from sources and by manifests that lie: what is handed out is right, or nothing is."""

from __future__ import annotations

import gzip
import hashlib
import threading
from dataclasses import replace
from typing import Any

import pytest

from citrate.core.errors import IntegrityError, StoreError
from citrate.core.records import Artifact, FileEntry
from citrate.registry import attempts, cid, dag, dagpb, sources, unixfs
from citrate.registry.dagpb import Link
from citrate.registry.fetching import fetch_artifact, fetch_block, spans
from citrate.registry.sources import GatewaySource
from citrate.registry.store import Store
from tests.registry.storage.conftest import CHUNK, pattern
from tests.registry.storage.hostile import Answer, Hook, hostile_gateway
from tests.registry.storage.unfetched import assert_untouched

pytestmark = pytest.mark.usefixtures("hurry")
CLOSED = "http://127.0.0.1:1"
WEIGHTS = pattern(3 * CHUNK + 17)


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
