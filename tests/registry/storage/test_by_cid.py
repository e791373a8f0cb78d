"""What is asked for by its CID alone: proved block by block, from gateways that serve and that break off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from citrate.cli.cat import parse_span
from citrate.core.errors import ConfigError, FormatError, IntegrityError, NotFoundError, StoreError
from citrate.core.records import TENSOR_PROFILE, Artifact
from citrate.registry import cid as cids
from citrate.registry.by_cid import ByteSpan, fetch_dag
from citrate.registry.cid import Cid
from citrate.registry.profiles import V0Importer
from citrate.registry.sources import GatewaySource, KuboSource
from citrate.registry.store import Store
from citrate.registry.store.importing import keep
from tests.e2e.machine import Machine
from tests.fixtures_kubo import KuboNode
from tests.registry.storage.cars import Dag, take
from tests.registry.storage.conftest import CHUNK, Serve, pattern
from tests.registry.storage.hostile import Answer, hostile_gateway
from tests.registry.storage.printing import SIZE, WEIGHTS, printed, published
from tests.registry.storage.tensor_files import safetensors

pytestmark = pytest.mark.usefixtures("hurry")
CLOSED = "http://127.0.0.1:1"
SPANS = [
    ByteSpan(), ByteSpan(0, 0), ByteSpan(3, 9), ByteSpan(CHUNK - 2, CHUNK + 1), ByteSpan(2 * CHUNK, 4 * CHUNK),
    ByteSpan(SIZE - 1), ByteSpan(-20), ByteSpan(-SIZE - 9), ByteSpan(10, SIZE * 2),
]  # fmt: skip


@pytest.fixture
def artifact(publisher: Store, model: Path) -> Artifact:
    return published(publisher, model)


def expected(data: bytes, span: ByteSpan) -> bytes:
    return data[span.first :] if span.last is None else data[span.first : span.last + 1]


def no_cars(answer: Answer) -> None:
    if "format=car" in answer.path:
        answer.status, answer.body, answer.headers = 406, b"blocks only", {}


# ------------------------------------------------------------------ bytes, proved


@pytest.mark.parametrize("served", ["CARs", "blocks"])
def test_any_bytes_of_any_file_come_with_no_more_than_what_proves_them(
    store: Store, artifact: Artifact, url: str, served: str
) -> None:
    with hostile_gateway(url, no_cars if served == "blocks" else lambda _: None) as gateway:
        for span in SPANS:
            gateway.requests.clear()
            source = GatewaySource(gateway.url)
            assert printed(store, [source], artifact.cid, "sub/weights.bin", span) == expected(WEIGHTS, span)
            singles = [path for path, _ in gateway.requests if "format=raw" in path]
            if served == "CARs":
                assert (len(gateway.requests), singles) == (1, [])
        assert len(singles) == (0 if served == "CARs" else 3 + 6)  # two folders, the file, its leaves
        assert printed(store, [GatewaySource(gateway.url)], artifact.cid, "sub/zeros") == bytes(4 * CHUNK)
    assert store.ls() == []
    assert not store.root.exists() or not list(store.root.rglob("*"))


def test_one_byte_costs_its_leaf_and_the_blocks_above_it(store: Store, artifact: Artifact, url: str) -> None:
    sizes: list[int] = []
    with hostile_gateway(url, lambda answer: sizes.append(len(answer.body))) as gateway:
        source = GatewaySource(gateway.url)
        assert (
            printed(store, [source], artifact.files[-2].cid, "", ByteSpan(3 * CHUNK, 3 * CHUNK))
            == WEIGHTS[3 * CHUNK :][:1]
        )
    assert len(sizes) == 1
    assert CHUNK < sizes[0] < CHUNK + 2000


def test_foreign_layouts_documents_and_sharded_folders_are_read_as_well(
    store: Store, publisher: Store, url: str, dag: Dag, tmp_path: Path
) -> None:
    many = {f"file {i} {'x' * 200}": dag.raw(str(i).encode()) for i in range(3)}
    file = dag.file(b"one ", b"two ", b"three")
    root = dag.folder(file=file, link=dag.symlink(b"file"), doc=dag.json({"far": {"/": str(file)}}), **many)
    take(publisher, dag.car(root))
    (tmp_path / "old").write_bytes(pattern(900_000))
    with publisher.dag_writer() as writer:
        old = V0Importer(writer.put).add(tmp_path / "old").cid
        keep(publisher, writer, [Cid.parse(old)], "test")
    (tmp_path / "wide").mkdir()
    for i in range(1100):
        (tmp_path / "wide" / f"{i}{'n' * 200}").write_bytes(str(i).encode())
    wide = publisher.add(tmp_path / "wide").cid
    source = GatewaySource(url)
    assert printed(store, [source], root, "file", ByteSpan(2, 9)) == b"e two th"
    assert printed(store, [source], root, "doc/far", ByteSpan(-5)) == b"three"
    assert printed(store, [source], root, "doc", ByteSpan(0, 5)) == b'{"far"'
    assert printed(store, [source], old, "", ByteSpan(262_140, 262_150)) == pattern(900_000)[262_140:262_151]
    assert printed(store, [source], wide, f"1034{'n' * 200}") == b"1034"
    for path, error in (
        ("", FormatError), ("link", FormatError), ("doc/nothing", NotFoundError), ("absent", NotFoundError),
        ("file/below", NotFoundError),
    ):  # fmt: skip
        with pytest.raises(error):
            printed(store, [source], root, path)
    with pytest.raises(FormatError, match="begins at byte 13 of 13"):
        printed(store, [source], root, "file", ByteSpan(13))
    assert store.ls() == []


def test_one_tensor_of_a_file_that_is_cut_at_its_tensors_comes_alone(
    store: Store, publisher: Store, serve: Serve, tmp_path: Path
) -> None:
    tensors = {name: pattern(700_000, seed) for seed, name in enumerate("abcdef", start=1)}
    data = safetensors(tensors)
    (tmp_path / "model.safetensors").write_bytes(data)
    cid = publisher.add(tmp_path / "model.safetensors", profile=TENSOR_PROFILE).cid
    sizes: list[int] = []
    with hostile_gateway(serve(publisher), lambda answer: sizes.append(len(answer.body))) as gateway:
        source, at = GatewaySource(gateway.url), data.index(tensors["d"])
        assert printed(store, [source], cid, "", ByteSpan(at, at + 699_999)) == tensors["d"]
        assert printed(store, [source], cid, "", ByteSpan(0, 7)) == data[:8]
        assert sizes[0] < 701_500
        assert sizes[1] < 2500
        fetch_dag(store, [source], cid, "me")
    assert store.get(cid).read_bytes() == data


def test_what_is_here_is_not_fetched_and_what_is_nowhere_says_so(
    store: Store, publisher: Store, artifact: Artifact, url: str
) -> None:
    assert printed(publisher, [GatewaySource(CLOSED)], artifact.cid, "sub/weights.bin") == WEIGHTS
    with pytest.raises(NotFoundError):
        printed(store, [], artifact.cid, "config.json")
    with pytest.raises(StoreError, match="Connection refused"):
        printed(store, [GatewaySource(CLOSED)], artifact.cid, "config.json")
    assert printed(store, [GatewaySource(CLOSED), GatewaySource(url)], artifact.cid, "config.json") == b'{"a": 1}'
    damaged = publisher.get(artifact.cid) / "config.json"
    damaged.chmod(0o644)
    damaged.write_bytes(b'{"a": 2}')
    with pytest.raises(IntegrityError):
        printed(publisher, [], artifact.cid, "config.json")


def test_leaves_that_repeat_and_names_of_any_kind_need_no_second_request(
    store: Store, publisher: Store, serve: Serve, tmp_path: Path
) -> None:
    data, name = pattern(10 * CHUNK) * 2, "50% off/?format=raw & ü #1"
    (tmp_path / "odd" / "50% off").mkdir(parents=True)
    (tmp_path / "odd" / name).write_bytes(data)
    root = publisher.add(tmp_path / "odd").cid
    with hostile_gateway(serve(publisher), lambda _: None) as gateway:
        assert printed(store, [GatewaySource(gateway.url)], root, name) == data
        assert len(gateway.requests) == 1


# ------------------------------------------------------------------ whole DAGs


def test_a_dag_comes_whole_and_is_kept_as_an_import_would_keep_it(
    store: Store, publisher: Store, artifact: Artifact, url: str, dag: Dag
) -> None:
    inline = Cid(1, cids.RAW, cids.IDENTITY, b"inside")
    root = dag.folder(file=dag.file(b"one ", b"two"), again=dag.file(b"one ", b"two"), link=dag.symlink(b"file"))
    top = dag.json({"tree": {"/": str(root)}, "in": {"/": str(inline)}, "files": {"/": artifact.cid}})
    take(publisher, dag.car(top))
    steps: list[tuple[str, int, int, str]] = []
    with hostile_gateway(url, lambda _: None) as gateway:
        source = GatewaySource(gateway.url)
        found = fetch_dag(store, [source], str(top), "me", lambda *step: steps.append((*step, "")[:4]))
        assert len(gateway.requests) == 1  # one CAR
        assert fetch_dag(store, [source], str(top), "me").fetched_bytes == 0
        assert len(gateway.requests) == 1
    assert (found.imported.added, found.sources, found.dropped) == (True, (gateway.url,), ())
    assert found.imported.stored.blocks > 10
    assert steps[-1] == ("fetch", found.fetched_bytes, 0, gateway.url)
    assert store.pins(str(top)) == ["me"]
    assert b"".join(store.export_car(str(top))) == b"".join(publisher.export_car(str(top)))
    plain = fetch_dag(store, [GatewaySource(CLOSED)], artifact.cid, "me")  # all of it is here
    assert (plain.fetched_bytes, plain.imported.stored.blocks) == (0, 0)
    assert (store.get(artifact.cid) / "sub" / "weights.bin").read_bytes() == WEIGHTS
    assert list((store.root / "partial").iterdir()) == []
    with pytest.raises(StoreError, match="no source"):
        fetch_dag(store, [], str(dag.raw(b"nowhere")), "me")


def test_what_is_damaged_here_is_mended(store: Store, artifact: Artifact, url: str) -> None:
    fetch_dag(store, [GatewaySource(url)], artifact.cid, "me")
    damaged = store.get(artifact.cid) / "sub" / "weights.bin"
    damaged.chmod(0o644)
    damaged.write_bytes(WEIGHTS[:CHUNK] + b"!" + WEIGHTS[CHUNK + 1 :])
    found = fetch_dag(store, [GatewaySource(url)], artifact.cid, "me")
    assert found.fetched_bytes == CHUNK
    assert (store.get(artifact.cid) / "sub" / "weights.bin").read_bytes() == WEIGHTS
    assert store.verify() == []


def test_a_fetch_goes_on_with_the_first_block_that_is_missing(store: Store, artifact: Artifact, url: str) -> None:
    left = [0]

    def dying(answer: Answer) -> None:
        if left[0] > 0 and "format=car" in answer.path:
            answer.headers["Content-Length"], answer.send = str(len(answer.body)), 3 * CHUNK + 100
            left[0] -= 1
        elif not left[0]:
            answer.status, answer.body, answer.headers = 500, b"gone", {}

    left[0] = 1
    with hostile_gateway(url, dying) as gateway, pytest.raises(StoreError, match="500"):
        fetch_dag(store, [GatewaySource(gateway.url)], artifact.cid, "me")
    assert store.ls() == []
    (folder,) = (store.root / "partial").iterdir()
    assert 2 * CHUNK < (folder / "pack").stat().st_size < 4 * CHUNK
    with (folder / "pack").open("r+b") as pack:  # what stands there is trusted for nothing
        pack.seek(2 * CHUNK + 500)
        pack.write(b"!")
    with (folder / "list").open("ab") as names:
        names.write(b"rubbish")
    found = fetch_dag(store, [GatewaySource(url)], artifact.cid, "me")
    assert artifact.size_bytes - 2 * CHUNK - CHUNK // 2 > found.fetched_bytes - 4 * CHUNK > 0
    assert (store.get(artifact.cid) / "sub" / "weights.bin").read_bytes() == WEIGHTS
    assert store.verify() == []
    assert list((store.root / "partial").iterdir()) == []


def test_a_fetch_that_was_killed_leaves_nothing_visible_and_is_resumed(
    tmp_path: Path, publisher: Store, artifact: Artifact, url: str
) -> None:
    machine = Machine(tmp_path / "home")

    def slow(answer: Answer) -> None:
        answer.headers["Content-Length"] = str(len(answer.body))
        answer.pause_s = 0.05

    with hostile_gateway(url, slow) as gateway:
        command = [sys.executable, "-m", "citrate.cli.main", "store", "fetch", artifact.cid, "--from", gateway.url]
        child = subprocess.Popen(command, env=machine.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        pack = machine.home / "store" / "partial" / f"{artifact.cid}.dag" / "pack"
        while not (pack.exists() and pack.stat().st_size > 4 * CHUNK):
            assert child.poll() is None
            time.sleep(0.005)
        os.kill(child.pid, signal.SIGKILL)
        child.wait(30)
    assert machine.gets("store", "ls")["objects"] == []
    found = machine.gets("store", "fetch", artifact.cid, "--from", url, "--reason", "mine")
    assert (found["status"], found["pinned"], found["sha256"]) == ("added", True, artifact.sha256)
    assert 0 < found["fetched_bytes"] < 5 * CHUNK  # of 6: what is noted of the pack may be a leaf or two behind it
    cut = machine.types("cat", f"ipfs://{artifact.cid}/config.json", "--range", "1-3")
    assert (cut.out, cut.code) == ('"a"', 0)
    absent = str(Cid.of(cids.RAW, b"nowhere"))
    assert machine.types("store", "fetch", absent, "--from", url).code == 5
    assert machine.types("cat", absent, "--offline", "--from", url).code == 4
    assert machine.types("cat", absent, "--range", "5-4").code == 2


def test_ranges_are_written_as_for_curl() -> None:
    assert [parse_span(text) for text in (None, "0-9", "7-7", "7-", "-7")] == [
        ByteSpan(), ByteSpan(0, 9), ByteSpan(7, 7), ByteSpan(7), ByteSpan(-7)
    ]  # fmt: skip
    for wrong in ("", "5", "5-4", "-0", "a-b", "1-2-3", "-", "1 - 2", "+1-2", "٣-٤", "9" * 20 + "-"):
        with pytest.raises(ConfigError, match="no range"):
            parse_span(wrong)


# ------------------------------------------------------------------ real Kubo


@pytest.mark.servers
def test_from_kubo_by_gateway_and_by_rpc(tmp_path: Path, kubo: KuboNode) -> None:
    data = pattern(3_000_000, 99)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "trickle").write_bytes(data)
    (tmp_path / "tree" / "link").symlink_to("trickle")
    root = kubo.ipfs("add", "-Qr", "--trickle", "--chunker=rabin", str(tmp_path / "tree"))
    for i, source in enumerate((GatewaySource(kubo.gateway), KuboSource(kubo.api))):
        store = Store(tmp_path / str(i))
        for span in (ByteSpan(), ByteSpan(1_000_000, 1_500_000), ByteSpan(-7)):
            assert printed(store, [source], root, "trickle", span) == expected(data, span)
        with pytest.raises(NotFoundError):
            printed(store, [source], root, "absent")
        found = fetch_dag(store, [source], root, "me")
        assert found.imported.stored.blocks > 5
        assert kubo.ipfs_bytes("dag", "export", root) == b"".join(store.export_car(root))
