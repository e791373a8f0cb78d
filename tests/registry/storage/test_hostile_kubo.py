"""Kubo, when what answers at its address is no friend: bounded memory, bounded time, one error."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from citrate.core.errors import IntegrityError, StoreError
from citrate.core.settings import Settings
from citrate.registry import attempts, kubo, kubo_answers
from citrate.registry import cid as cids
from citrate.registry.dagpb import BLOCK_MAX_BYTES
from citrate.registry.fetching import fetch_artifact, fetch_block
from citrate.registry.kubo import Kubo
from citrate.registry.pushing import KUBO, Destination, Item, standing
from citrate.registry.sources import KuboSource, MissingError, NoStreamError, SourceError, UnansweredError, pace, wire
from citrate.registry.store import Store
from tests.registry.storage.conftest import CHUNK, pattern
from tests.registry.storage.wild import plain

BLOCK = pattern(5000)
CID = cids.of(cids.RAW, BLOCK)
BOUND_S = 60
"""Less than one of the times that are waited for where nobody hurries, three times over."""
AHEAD_MAX_BYTES = 64 << 20
"""What sockets may hold of what nobody reads."""


@dataclass
class Node:
    """What listens; what it was asked, and how much it got rid of."""

    url: str
    asked: list[str] = field(default_factory=list)
    sent_bytes: int = 0
    was_asked: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def send(self, connection: socket.socket, data: bytes) -> None:
        connection.sendall(data)
        self.sent_bytes += len(data)


Answer = Callable[[socket.socket, Node], None]


@contextlib.contextmanager
def answering(answer: Answer) -> Iterator[Node]:
    """A server that answers every request as ``answer`` does, and then closes the connection."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    node = Node(f"http://127.0.0.1:{listener.getsockname()[1]}")

    def talk(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(4096)
                if not piece:
                    return
                head += piece
            node.asked.append(head.decode().split("\r\n")[0])
            node.was_asked.set()
            answer(connection, node)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield node
    finally:
        node.over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def endlessly(connection: socket.socket, node: Node, head: bytes, piece: bytes) -> None:
    node.send(connection, head)
    while not node.over.is_set():
        node.send(connection, piece)


def drip(connection: socket.socket, node: Node, head: bytes) -> None:
    node.send(connection, head)
    while not node.over.wait(0.01):
        node.send(connection, b"x")


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = OK + b"Content-Length: 1099511627776\r\n\r\n"
FAILED = b"HTTP/1.1 500 Internal Server Error\r\n\r\n"

ENDLESS: dict[str, Answer] = {
    "until it is closed": lambda to, node: endlessly(to, node, OK + b"\r\n", bytes(1 << 16)),
    "a terabyte": lambda to, node: endlessly(to, node, LONG, bytes(1 << 16)),
    "chunks": lambda to, node: endlessly(to, node, CHUNKED, b"10000\r\n" + bytes(1 << 16) + b"\r\n"),
    "one chunk of an exabyte": lambda to, node: endlessly(to, node, CHUNKED + b"fffffffffffffff\r\n", bytes(1 << 16)),
    "another block": lambda to, node: node.send(to, plain(pattern(5000, seed=9))),
    "a block and more": lambda to, node: node.send(to, plain(BLOCK + b"x")),
}
SLOW: dict[str, Answer] = {
    "a drip until it is closed": lambda to, node: drip(to, node, OK + b"\r\n"),
    "a drip into one chunk": lambda to, node: drip(to, node, CHUNKED + b"1388\r\n"),
    "a drip into a body": lambda to, node: drip(to, node, OK + b"Content-Length: 5000\r\n\r\n"),
    "a drip into the head": lambda to, node: drip(to, node, OK + b"X-Filler: "),
    "a drip of an excuse": lambda to, node: drip(to, node, FAILED),
    "silence": lambda _, node: node.over.wait(BOUND_S) and None,
}
REFUSALS: dict[str, tuple[Answer, str]] = {
    "an endless excuse": (lambda to, node: endlessly(to, node, FAILED, b"x" * (1 << 16)), "as no Kubo RPC does"),
    "an endless head": (lambda to, node: endlessly(to, node, OK, b"X: " + b"x" * 1000 + b"\r\n"), "head has no end"),
    "a web page": (lambda to, node: node.send(to, plain(b"<html>", "404 Not Found")), "as no Kubo RPC does"),
    "deep JSON": (lambda to, node: node.send(to, plain(b"[" * 9000, "500 Oops")), "as no Kubo RPC does"),
    "its own words": (lambda to, node: node.send(to, plain(b'{"Message": "no room"}', "500 Oops")), "refused: no room"),
}


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "BACKOFF_S", 0.01)
    monkeypatch.setattr(wire, "READ_TIMEOUT_S", 0.5)
    monkeypatch.setattr(wire, "_TICK_S", 0.1)
    monkeypatch.setattr(pace, "STALL_WINDOW_S", 0.3)
    monkeypatch.setattr(pace, "STALL_BYTES_PER_S", 1 << 20)


@pytest.mark.parametrize("how", ENDLESS)
def test_no_more_is_read_than_a_block_may_have_and_the_node_is_named_a_liar(how: str) -> None:
    with answering(ENDLESS[how]) as node, pytest.raises(IntegrityError) as caught:
        fetch_block(CID, [KuboSource(node.url)])
    assert node.url in caught.value.message
    assert node.asked == [f"POST /api/v0/block/get?arg={CID} HTTP/1.1"]
    assert node.sent_bytes < BLOCK_MAX_BYTES + AHEAD_MAX_BYTES


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("how", SLOW)
def test_a_node_that_drips_or_keeps_silent_is_given_up(how: str) -> None:
    began_s = time.monotonic()
    with answering(SLOW[how]) as node, pytest.raises(StoreError, match="no source has") as caught:
        fetch_block(CID, [KuboSource(node.url)])
    assert time.monotonic() - began_s < BOUND_S
    assert caught.value.hint


@pytest.mark.parametrize("how", REFUSALS)
def test_an_excuse_is_read_no_further_than_a_few_lines(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "BACKOFF_S", 0.01)
    answer, reason = REFUSALS[how]
    with answering(answer) as node, pytest.raises(StoreError, match=reason) as caught:
        fetch_block(CID, [KuboSource(node.url)])
    assert len(caught.value.message) < 600
    assert node.sent_bytes < AHEAD_MAX_BYTES


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("how", [*ENDLESS, *SLOW])
def test_files_and_whole_dags_are_no_way_around_it(how: str, store: Store, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(pattern(CHUNK))
    artifact = Store(tmp_path / "publisher").add(tmp_path / "weights")
    began_s = time.monotonic()
    with answering({**ENDLESS, **SLOW}[how]) as node, pytest.raises((StoreError, IntegrityError)):
        fetch_artifact(artifact, store, [KuboSource(node.url)])
    assert time.monotonic() - began_s < BOUND_S
    assert node.sent_bytes < 8 * AHEAD_MAX_BYTES
    assert store.ls() == []


def test_redirects_are_not_followed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(0)
        where = f"Location: http://127.0.0.1:{elsewhere.getsockname()[1]}/api/v0/block/get?arg={CID}"
        redirect = plain(b"", "307 Temporary Redirect", where)
        with answering(lambda to, node: node.send(to, redirect)) as node, pytest.raises(StoreError, match="HTTP 307"):
            fetch_block(CID, [KuboSource(node.url)])
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


def test_who_waits_for_a_node_can_be_stopped_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "READ_TIMEOUT_S", 3600.0)
    told: list[SourceError] = []
    with answering(lambda _, node: node.over.wait(3600) and None) as node:
        source = KuboSource(node.url)
        waiting = threading.Thread(target=lambda: told.append(_error_of(source)), daemon=True)
        waiting.start()
        assert node.was_asked.wait(BOUND_S)
        source.stop()
        waiting.join(BOUND_S)
    assert [type(error) for error in told] == [UnansweredError]


def _error_of(source: KuboSource) -> SourceError:
    try:
        source.block(CID)
    except SourceError as error:
        return error
    raise AssertionError("it answered")


def test_a_node_on_a_socket_of_unix_is_asked_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(plain(BLOCK))

        thread = threading.Thread(target=serve)
        thread.start()
        source = KuboSource(f"/unix{path}")
        assert source.block(CID) == BLOCK
        thread.join(BOUND_S)


def test_what_is_no_address_and_what_is_no_whole_dag_is_said_at_once() -> None:
    with pytest.raises(MissingError, match="not the address of a Kubo RPC"):
        KuboSource("/ip4/999/tcp/1").block(CID)
    with pytest.raises(NoStreamError):
        KuboSource("/ip4/127.0.0.1/tcp/1").car(f"{CID}/path?dag-scope=entity")


# ------------------------------------------------------------------ as a destination

DEEP = b"[" * kubo_answers.ANSWER_MAX_BYTES
FALSE: dict[str, tuple[Answer, str]] = {
    **{how: (answer, "no Kubo RPC") for how, answer in ENDLESS.items()},
    **{how: (answer, ".") for how, (answer, _) in REFUSALS.items()},
    "an answer nested too deep": (lambda to, node: node.send(to, plain(DEEP)), "no Kubo RPC"),
    "a redirect": (
        lambda to, node: node.send(to, plain(b"", "307 Temporary Redirect", f"Location: {node.url}/elsewhere")),
        "it redirects",
    ),
    "an answer that breaks off": (lambda to, node: node.send(to, plain(b'{"Keys"', length=100)), "broke off"),
    "many words": (
        lambda to, node: node.send(to, plain(b'{"Message": "%s"}' % (b"no room " * 5000), "500 Oops")),
        "refused: no room no room",
    ),
}


@pytest.mark.parametrize("how", FALSE)
def test_what_a_destination_answers_is_bounded(how: str) -> None:
    answer, reason = FALSE[how]
    with answering(answer) as node, pytest.raises(StoreError, match=reason) as caught:
        Kubo(node.url).is_pinned(CID)
    assert len(caught.value.message) < 700 and caught.value.hint
    assert len(node.asked) == 1, "nothing is asked twice, or elsewhere"
    assert node.sent_bytes < AHEAD_MAX_BYTES


@pytest.mark.parametrize("how", [how for how in SLOW if how != "a drip into the head"])
def test_a_destination_that_drips_or_keeps_silent_is_given_up(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubo, "TIMEOUT_S", 2.0)
    monkeypatch.setattr(kubo_answers, "ANSWER_TIMEOUT_S", 0.3)
    began_s = time.monotonic()
    with answering(SLOW[how]) as node, pytest.raises(StoreError, match=r"did not end its answer|timed out|broke off"):
        Kubo(node.url).is_pinned(CID)
    assert time.monotonic() - began_s < BOUND_S


@pytest.mark.parametrize("to", [KUBO, f"{KUBO}:service"])
def test_no_way_to_a_destination_is_around_it(to: str) -> None:
    endless = ENDLESS["chunks"]
    with answering(endless) as node, pytest.raises(StoreError, match="no Kubo RPC"):
        standing((Item("object", CID),), Destination.parse(to, Settings(home=Path("unused"), kubo_api=node.url)))
