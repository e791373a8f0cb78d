"""What is asked for by its CID alone: proved block by block, from gateways that serve, that break off, and that lie."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from citrate.cli.cat import parse_span
from citrate.core.errors import CitrateError, ConfigError, FormatError, IntegrityError, NotFoundError, StoreError
from citrate.core.records import TENSOR_PROFILE, Artifact
from citrate.registry import attempts, by_cid, dagcbor
from citrate.registry import cid as cids
from citrate.registry.by_cid import ByteSpan, fetch_dag
from citrate.registry.cid import Cid
from citrate.registry.dagpb import BLOCK_MAX_BYTES
from citrate.registry.profiles import V0Importer
from citrate.registry.sources import GatewaySource, KuboSource, Source, cars, protocol
from citrate.registry.store import Store
from citrate.registry.store.importing import keep
from citrate.registry.varint import varint
from tests.e2e.machine import Machine
from tests.fixtures_kubo import KuboNode
from tests.registry.storage.cars import Dag, section, take
from tests.registry.storage.conftest import CHUNK, Serve, pattern
from tests.registry.storage.hostile import Answer, Hook, hostile_gateway
from tests.registry.storage.tensor_files import safetensors

CLOSED = "http://127.0.0.1:1"
SIZE = 5 * CHUNK + 17
WEIGHTS = pattern(SIZE)
SPANS = [
    ByteSpan(), ByteSpan(0, 0), ByteSpan(3, 9), ByteSpan(CHUNK - 2, CHUNK + 1), ByteSpan(2 * CHUNK, 4 * CHUNK),
    ByteSpan(SIZE - 1), ByteSpan(-20), ByteSpan(-SIZE - 9), ByteSpan(10, SIZE * 2),
]  # fmt: skip


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "BACKOFF_S", 0.01)


@pytest.fixture
def publisher(tmp_path: Path) -> Store:
    return Store(tmp_path / "publisher")


@pytest.fixture
def artifact(publisher: Store, model: Path) -> Artifact:
    (model / "sub" / "weights.bin").write_bytes(WEIGHTS)
    (model / "sub" / "zeros").write_bytes(bytes(4 * CHUNK))
    return publisher.add(model)


@pytest.fixture
def url(serve: Serve, publisher: Store) -> str:
    return serve(publisher)


def printed(store: Store, sources: list[Source], cid: object, path: str = "", span: ByteSpan | None = None) -> bytes:
    return b"".join(by_cid.cat(store, sources, str(cid), path, span))


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


# ------------------------------------------------------------------ gateways whose CARs are no good


def rebuilt(change: Callable[[list[bytes]], list[bytes]]) -> Hook:
    """Change the sections of every CAR."""

    def hook(answer: Answer) -> None:
        if "format=car" in answer.path and answer.status == 200:
            found, at, body = list[bytes](), 0, answer.body
            while at < len(body):
                length, shift, start = 0, 0, at
                while True:
                    length |= (body[at] & 0x7F) << shift
                    shift, at = shift + 7, at + 1
                    if body[at - 1] < 0x80:
                        break
                at += length
                found.append(body[start:at])
            answer.body = b"".join([found[0], *change(found[1:])])

    return hook


def foreign(count: int) -> list[bytes]:
    return [section(Cid.of(cids.RAW, block), block) for block in (pattern(CHUNK, i) for i in range(1, count + 1))]


def replaced(body: bytes) -> Hook:
    def hook(answer: Answer) -> None:
        if "format=car" in answer.path:
            answer.body = body

    return hook


def truncated(answer: Answer) -> None:
    if "format=car" in answer.path:
        answer.body = answer.body[: len(answer.body) * 2 // 3]


def torn(answer: Answer) -> None:
    if "format=car" in answer.path:
        answer.headers["Content-Length"], answer.send = str(len(answer.body)), len(answer.body) // 2


def elsewhere(answer: Answer) -> None:
    if "format=car" in answer.path:
        answer.status, answer.headers = 302, {"Location": "http://127.0.0.1:1/"}


def compressed(answer: Answer) -> None:
    if "format=car" in answer.path:
        answer.headers["Content-Encoding"] = "gzip"


USELESS: dict[str, Hook] = {
    "truncated": truncated,
    "torn": torn,
    "redirected": elsewhere,
    "compressed": compressed,
    "empty": replaced(b""),
    "a web page": replaced(b"<!doctype html><title>hello</title>"),
    "a huge header": replaced(varint((1 << 62) - 1) + b"x"),
    "a header of a gibibyte": replaced(varint(1 << 30) + bytes(5000)),
    "another version": replaced(varint(11) + bytes.fromhex("a16776657273696f6e07")),
    "no blocks": rebuilt(lambda _: []),
    "no root": rebuilt(lambda blocks: blocks[1:]),
    "a huge block": rebuilt(lambda blocks: [*blocks[:1], varint(BLOCK_MAX_BYTES + 300) + bytes(BLOCK_MAX_BYTES + 300)]),
    "an unknown hash": rebuilt(lambda blocks: [varint(37) + b"\x01\x55\x99\x01\x20" + bytes(32), *blocks]),
    "backwards": rebuilt(lambda blocks: blocks[::-1]),
    "each block twice": rebuilt(lambda blocks: [block for each in blocks for block in (each, each)]),
    "one block without end": rebuilt(lambda blocks: blocks[:1] + blocks[1:2] * 30),
    "ten times the bytes before it": rebuilt(lambda blocks: foreign(20) + blocks),
    "ten times the bytes after it": rebuilt(lambda blocks: blocks + foreign(20)),
    "a foreign block between any two": rebuilt(
        lambda blocks: [b for pair in zip(blocks, foreign(len(blocks)), strict=True) for b in pair]
    ),
}


@pytest.mark.parametrize("fault", USELESS)
def test_a_car_that_is_no_good_costs_time_and_never_a_byte(
    store: Store, artifact: Artifact, url: str, fault: str
) -> None:
    with hostile_gateway(url, USELESS[fault]) as gateway:
        source = GatewaySource(gateway.url)
        assert (
            printed(store, [source], artifact.cid, "sub/weights.bin", ByteSpan(5, 3 * CHUNK))
            == WEIGHTS[5 : 3 * CHUNK + 1]
        )
        found = fetch_dag(store, [source], artifact.cid, "me")
        singles = [path for path, _ in gateway.requests if "format=raw" in path]
        assert len(gateway.requests) - len(singles) <= 12  # then it is asked for no more CARs
    assert (found.dropped, store.verify()) == ((), [])
    assert (store.get(artifact.cid) / "sub" / "weights.bin").read_bytes() == WEIGHTS


def flipped(answer: Answer) -> None:
    if "format=car" in answer.path:
        middle = len(answer.body) // 2
        answer.body = answer.body[:middle] + bytes((answer.body[middle] ^ 4,)) + answer.body[middle + 1 :]


def test_a_gateway_whose_car_lies_is_dropped_and_named(store: Store, artifact: Artifact, url: str) -> None:
    with hostile_gateway(url, flipped) as gateway:
        liar = GatewaySource(gateway.url)
        with pytest.raises(IntegrityError, match="gave wrong bytes"):
            printed(store, [liar], artifact.cid, "sub/weights.bin")
        with pytest.raises(IntegrityError, match="gave wrong bytes"):
            fetch_dag(store, [liar], artifact.cid, "me")
        assert store.ls() == []
        assert printed(store, [liar, GatewaySource(url)], artifact.cid, "sub/weights.bin") == WEIGHTS
        found = fetch_dag(store, [liar, GatewaySource(url)], artifact.cid, "me")
    assert found.dropped == (gateway.url,)
    assert store.verify() == []


def test_a_car_that_drips_is_given_up_in_time(
    store: Store, artifact: Artifact, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "PIECE_TIMEOUT_S", 0.3)

    def drip(answer: Answer) -> None:
        if "format=car" in answer.path:
            answer.pause_s = 0.1

    with hostile_gateway(url, drip) as gateway:
        assert printed(store, [GatewaySource(gateway.url)], artifact.cid, "sub/weights.bin") == WEIGHTS
        assert any("format=raw" in path for path, _ in gateway.requests)


class Scripted:
    """A gateway of one CAR and nothing else."""

    name, connections = "scripted", 1

    def __init__(self, car: bytes) -> None:
        self.body = memoryview(car)

    def another(self) -> Scripted:
        return self

    def stop(self) -> None: ...

    def close(self) -> None: ...

    def block(self, cid: str) -> bytes:
        raise protocol.MissingError(f"no {cid}")

    def stream(self, *_: object) -> protocol.ByteStream:
        raise protocol.NoStreamError("none")

    def car(self, _: str) -> protocol.ByteStream:
        return self

    def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self.body))
        buffer[:count], self.body = self.body[:count], self.body[count:]
        return count


def test_no_flipped_bit_of_a_car_gets_through(store: Store, dag: Dag) -> None:
    pieces = [pattern(700, i) for i in range(5)]
    root = dag.folder(file=dag.file(*pieces))
    take(store, dag.car(root))
    honest = b"".join(store.export_car(str(root)))
    reader = Store(store.root.parent / "reader")
    outcomes = set[str]()
    for at in range(0, len(honest) * 8, 41):
        car = bytearray(honest)
        car[at // 8] ^= 1 << at % 8
        try:
            assert printed(reader, [Scripted(bytes(car))], root, "file") == b"".join(pieces)
            outcomes.add("harmless")
        except CitrateError as error:
            outcomes.add(type(error).__name__)
    assert outcomes <= {"harmless", "IntegrityError", "StoreError"}
    assert "IntegrityError" in outcomes


def test_what_waits_is_bounded_and_the_connection_is_closed(
    store: Store, dag: Dag, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cars, "AHEAD_MAX_BYTES", 10_000)
    root = dag.file(b"wanted ", b"bytes")
    header = dagcbor.car_header([root])
    rubbish = b"".join(section(Cid.of(cids.RAW, block), block) for block in (pattern(5000, i) for i in range(2000)))
    source = Scripted(header + rubbish)
    with pytest.raises(StoreError, match="brought other blocks"):
        printed(store, [source], root)
    assert len(source.body) > len(rubbish) - 2 * (1 << 18)  # hardly any of it was read
    tiny = b"".join(
        section(cid, cid.digest) for cid in (Cid(1, cids.RAW, cids.IDENTITY, bytes((i,))) for i in range(250))
    )
    source = Scripted(header + tiny * 400)
    with pytest.raises(StoreError, match="brought other blocks"):
        printed(store, [source], root)
    assert len(source.body) > len(tiny) * 400 - 2 * (1 << 18)


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
