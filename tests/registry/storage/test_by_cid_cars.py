"""What is asked for by its CID alone, from gateways whose CARs are broken, endless, or lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from citrate.core.errors import CitrateError, IntegrityError, StoreError
from citrate.core.records import Artifact
from citrate.registry import cid as cids
from citrate.registry import dagcbor
from citrate.registry.by_cid import ByteSpan, fetch_dag
from citrate.registry.cid import Cid
from citrate.registry.dagpb import BLOCK_MAX_BYTES
from citrate.registry.sources import GatewaySource, cars, protocol
from citrate.registry.store import Store
from citrate.registry.varint import varint
from tests.registry.storage.cars import Dag, section, take
from tests.registry.storage.conftest import CHUNK, pattern
from tests.registry.storage.hostile import Answer, Hook, hostile_gateway
from tests.registry.storage.printing import WEIGHTS, printed, published

pytestmark = pytest.mark.usefixtures("hurry")


@pytest.fixture
def artifact(publisher: Store, model: Path) -> Artifact:
    return published(publisher, model)


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
