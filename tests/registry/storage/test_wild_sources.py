"""Sources that misbehave on the wire: a typed error in bounded time, or another source takes over; nothing is left."""

from __future__ import annotations

import random
import socket
import time
from pathlib import Path

import pytest

from citrate.core.errors import CitrateError, IntegrityError, StoreError
from citrate.core.records import Artifact
from citrate.registry import attempts, unixfs
from citrate.registry.fetching import fetch_artifact, fetch_block, lanes, spans
from citrate.registry.sources import GatewaySource, StoreSource, pace, wire
from citrate.registry.store import Store
from tests.registry.storage.conftest import CHUNK, Serve, pattern
from tests.registry.storage.wild import Answer, Asked, Wild, fitting, plain, reset, wild_gateway

SIZE = 3 * CHUNK + 17
BOUND_S = 30


@pytest.fixture(autouse=True)
def hurry(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are short where a source is slow by intent; elsewhere nobody is slow but a busy machine."""
    monkeypatch.setattr(attempts, "BACKOFF_S", 0.01)
    monkeypatch.setattr(lanes, "ATTEMPTS", 2)
    if not hasattr(request.node, "callspec") or request.node.callspec.params.get("wild_one") not in SLOW:
        return
    monkeypatch.setattr(wire, "READ_TIMEOUT_S", 0.25)
    monkeypatch.setattr(wire, "_TICK_S", 0.1)
    monkeypatch.setattr(pace, "STALL_WINDOW_S", 0.2)
    monkeypatch.setattr(pace, "STALL_BYTES_PER_S", 1 << 20)
    monkeypatch.setattr(spans, "SILENT_S", 0.2)


@pytest.fixture
def publisher(tmp_path: Path) -> Store:
    return Store(tmp_path / "publisher")


@pytest.fixture
def artifact(publisher: Store, tmp_path: Path) -> Artifact:
    (tmp_path / "weights.bin").write_bytes(pattern(SIZE))
    return publisher.add(tmp_path / "weights.bin")


def stalls(_: Asked, __: bytes, ___: socket.socket, wild: Wild) -> None:
    wild.over.wait(60)


def stalls_in_the_middle(asked: Asked, right: bytes, connection: socket.socket, wild: Wild) -> None:
    connection.sendall(fitting(asked, right, SIZE)[: len(right) // 2])
    wild.over.wait(60)


def drips(asked: Asked, right: bytes, connection: socket.socket, wild: Wild) -> None:
    answer = fitting(asked, right, SIZE)
    for at in range(0, len(answer), 300):  # the head, and then next to nothing
        connection.sendall(answer[at : at + 300])
        if wild.over.wait(0.01):
            return


def drips_its_head(_: Asked, __: bytes, connection: socket.socket, wild: Wild) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not wild.over.wait(0.01):
        connection.sendall(b"X")


def head_without_end(_: Asked, __: bytes, connection: socket.socket, wild: Wild) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not wild.over.is_set():
        connection.sendall(b"X-Filler: " + b"x" * 1000 + b"\r\n")


def truncates(asked: Asked, right: bytes, connection: socket.socket, _: Wild) -> None:
    connection.sendall(fitting(asked, right, SIZE)[: len(right) // 3])


def resets(asked: Asked, right: bytes, connection: socket.socket, _: Wild) -> None:
    connection.sendall(fitting(asked, right, SIZE)[: len(right) // 3])
    reset(connection)


def says_nothing(*_: object) -> None:
    """The connection is closed without a word."""


def talks_nonsense(_: Asked, __: bytes, connection: socket.socket, ___: Wild) -> None:
    connection.sendall(b"220 mail.example ESMTP\r\n\r\n" * 10)


def sends_ten_times_as_much(asked: Asked, right: bytes, connection: socket.socket, _: Wild) -> None:
    connection.sendall(plain(right * 10) if asked.stop is None else fitting(asked, right * 10, SIZE))


def announces_too_much(_: Asked, right: bytes, connection: socket.socket, __: Wild) -> None:
    connection.sendall(plain(right, length=len(right) + 1))


def announces_exabytes(_: Asked, right: bytes, connection: socket.socket, __: Wild) -> None:
    connection.sendall(plain(right, length=1 << 62))


def announces_a_negative_length(_: Asked, right: bytes, connection: socket.socket, __: Wild) -> None:
    connection.sendall(plain(right, length=-5))


def tells_another_range(_: Asked, right: bytes, connection: socket.socket, __: Wild) -> None:
    connection.sendall(plain(right, "206 Partial Content", f"Content-Range: bytes 5-{len(right) + 4}/{SIZE}"))


def sends_another_range(asked: Asked, right: bytes, connection: socket.socket, _: Wild) -> None:
    connection.sendall(fitting(asked, right[1:] + right[:1], SIZE))


def sends_a_block_of_another_file(asked: Asked, right: bytes, connection: socket.socket, _: Wild) -> None:
    connection.sendall(fitting(asked, pattern(len(right), seed=9), SIZE))


def redirects(_: Asked, __: bytes, connection: socket.socket, wild: Wild) -> None:
    connection.sendall(plain(b"", "302 Found", f"Location: {wild.elsewhere}"))


def is_overloaded(_: Asked, __: bytes, connection: socket.socket, ___: Wild) -> None:
    connection.sendall(plain(b"", "429 Too Many Requests", "Retry-After: 0"))


def asks_to_wait_for_an_hour(_: Asked, __: bytes, connection: socket.socket, ___: Wild) -> None:
    connection.sendall(plain(b"", "429 Too Many Requests", "Retry-After: 3600"))


def chunks_without_end(_: Asked, __: bytes, connection: socket.socket, wild: Wild) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not wild.over.is_set():
        connection.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")


def a_chunk_of_negative_size(_: Asked, right: bytes, connection: socket.socket, __: Wild) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n" + right)


def a_chunk_size_without_end(_: Asked, __: bytes, connection: socket.socket, wild: Wild) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not wild.over.is_set():
        connection.sendall(b"0" * 4096)


def compresses(_: Asked, right: bytes, connection: socket.socket, __: Wild) -> None:
    connection.sendall(plain(right, "200 OK", "Content-Encoding: br"))


def fails(_: Asked, __: bytes, connection: socket.socket, ___: Wild) -> None:
    connection.sendall(plain(b"panic", "500 Internal Server Error"))


SLOW = [stalls, stalls_in_the_middle, drips, drips_its_head]
HONEST_FAILURES = [
    *SLOW, head_without_end, says_nothing, talks_nonsense, redirects, is_overloaded, asks_to_wait_for_an_hour,
    a_chunk_of_negative_size, a_chunk_size_without_end, fails,
]  # fmt: skip
LIES = [sends_another_range, sends_a_block_of_another_file, sends_ten_times_as_much, chunks_without_end]
BREAK_OFF = [truncates, resets]
WRONG_HEADS = [announces_too_much, announces_exabytes, tells_another_range]
HARMLESS = [announces_a_negative_length, compresses]


def assert_untouched(store: Store) -> None:
    """Nothing but locks is left of a fetch."""
    assert store.ls() == []
    left = [path for path in store.root.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert [path for path in left if not path.name.startswith("index.sqlite")] == []


@pytest.mark.parametrize("wild_one", [*HONEST_FAILURES, *BREAK_OFF])
def test_a_source_that_fails_ends_in_a_typed_error_within_bounds(
    store: Store, publisher: Store, artifact: Artifact, wild_one: Answer
) -> None:
    began_s = time.monotonic()
    with wild_gateway(publisher, wild_one) as wild, pytest.raises(StoreError, match="no source has") as caught:
        fetch_artifact(artifact, store, [GatewaySource(wild.url)])
    assert time.monotonic() - began_s < BOUND_S
    assert wild.url in caught.value.message
    assert caught.value.hint
    assert store.ls() == []


@pytest.mark.parametrize("wild_one", [*LIES, *WRONG_HEADS])
def test_a_source_that_sends_something_else_is_named_or_of_no_use(
    store: Store, publisher: Store, artifact: Artifact, wild_one: Answer
) -> None:
    began_s = time.monotonic()
    with wild_gateway(publisher, wild_one) as wild, pytest.raises(CitrateError) as caught:
        fetch_artifact(artifact, store, [GatewaySource(wild.url)])
    assert time.monotonic() - began_s < BOUND_S
    assert isinstance(caught.value, IntegrityError if wild_one in LIES else StoreError)
    assert wild.url in caught.value.message
    if wild_one in LIES:
        assert_untouched(store)
    assert store.ls() == []


@pytest.mark.parametrize("oddity", HARMLESS)
def test_what_is_odd_and_right_is_taken(store: Store, publisher: Store, artifact: Artifact, oddity: Answer) -> None:
    with wild_gateway(publisher, oddity) as wild:
        fetched = fetch_artifact(artifact, store, [GatewaySource(wild.url)])
    assert unixfs.address(fetched.path) == artifact


def test_a_source_that_breaks_off_is_continued_behind_the_last_leaf_that_came(
    store: Store, publisher: Store, artifact: Artifact
) -> None:
    def breaks_off(asked: Asked, right: bytes, connection: socket.socket, _: Wild) -> None:
        answer = fitting(asked, right, SIZE)
        connection.sendall(answer[: len(answer) - len(right) + CHUNK + CHUNK // 2])

    with wild_gateway(publisher, breaks_off) as wild:
        fetched = fetch_artifact(artifact, store, [GatewaySource(wild.url)])
    assert unixfs.address(fetched.path) == artifact
    assert [asked.start for asked in wild.asked if not asked.raw] == [0, CHUNK, 2 * CHUNK]


def test_a_source_that_comes_to_give_less_than_a_leaf_is_given_up_and_what_came_is_kept(
    store: Store, publisher: Store, artifact: Artifact
) -> None:
    def breaks_off(asked: Asked, right: bytes, connection: socket.socket, _: Wild) -> None:
        answer = fitting(asked, right, SIZE)
        given = CHUNK // 3 if asked.start else CHUNK + CHUNK // 2
        connection.sendall(answer[: len(answer) - len(right) + given])

    with wild_gateway(publisher, breaks_off) as wild, pytest.raises(StoreError, match="no source has"):
        fetch_artifact(artifact, store, [GatewaySource(wild.url)])
    assert store.ls() == []
    fetched = fetch_artifact(artifact, store, [StoreSource(publisher, "publisher")])
    assert unixfs.address(fetched.path) == artifact
    assert fetched.fetched_bytes < SIZE - CHUNK + 1000, "the block that names the leaves; not the first of them again"


@pytest.mark.parametrize("wild_one", [*HONEST_FAILURES, *LIES, *WRONG_HEADS, *BREAK_OFF])
def test_another_source_takes_over(
    store: Store, publisher: Store, artifact: Artifact, serve: Serve, wild_one: Answer
) -> None:
    began_s = time.monotonic()
    # where waits are short, an honest gateway of a busy machine would be given up as well
    honest = StoreSource(publisher, "honest") if wild_one in SLOW else GatewaySource(serve(publisher))
    with wild_gateway(publisher, wild_one) as wild:
        fetched = fetch_artifact(artifact, store, [GatewaySource(wild.url), honest])
    assert time.monotonic() - began_s < BOUND_S
    assert unixfs.address(fetched.path) == artifact
    assert honest.name in fetched.source
    assert not (store.root / "partial" / artifact.cid).exists()


def test_a_source_that_asks_to_wait_is_asked_again_when_it_said(
    store: Store, publisher: Store, artifact: Artifact
) -> None:
    times: list[float] = []

    def busy_once(asked: Asked, right: bytes, connection: socket.socket, _: Wild) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            connection.sendall(plain(b"", "503 Service Unavailable", "Retry-After: 1"))
        else:
            connection.sendall(fitting(asked, right, SIZE))

    with wild_gateway(publisher, busy_once) as wild:
        fetched = fetch_artifact(artifact, store, [GatewaySource(wild.url)])
    assert unixfs.address(fetched.path) == artifact
    assert times[1] - times[0] >= 1.0


def test_a_thousand_flipped_bits_in_answers_are_found_or_do_no_harm(
    publisher: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "BACKOFF_S", 0.0001)
    block = pattern(700)
    cid = publisher.put_block(block)
    rng = random.Random(20)
    outcomes = {"right": 0, "wrong": 0, "none": 0}
    now = [0]

    def flipped(_: Asked, right: bytes, connection: socket.socket, __: Wild) -> None:
        answer = bytearray(plain(right))
        answer[now[0] // 8] ^= 1 << now[0] % 8
        connection.sendall(answer)

    with wild_gateway(publisher, flipped) as wild:
        for _ in range(1000):
            now[0] = rng.randrange(8 * len(plain(block)))
            try:
                data, _ = fetch_block(cid, [GatewaySource(wild.url)])
            except IntegrityError:
                outcomes["wrong"] += 1
            except StoreError:
                outcomes["none"] += 1
            else:
                assert data == block
                outcomes["right"] += 1
    assert outcomes["wrong"] > 700, outcomes  # every flip in the block itself
    assert sum(outcomes.values()) == 1000
