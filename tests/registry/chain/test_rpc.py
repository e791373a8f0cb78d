"""Whatever a node does wrong is one ChainError with a hint, and no key of the user's URL is shown."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from citrate.core.errors import ChainError, ConfigError
from citrate.registry import rpc as module
from citrate.registry.rpc import JsonRpc, RpcError, quantity, unhex
from tests.registry.chain.proxy import QuietHandler, respond, saying, serving


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"<html>Welcome</html>"),
        (200, b"[]"),
        (200, b'"0x1"'),
        (200, b'{"jsonrpc": "2.0", "id": 0}'),
        (200, b'{"jsonrpc": "2.0", "id": 7, "result": "0x1"}'),
        (200, b"[" * 100_000),
        (403, b"forbidden"),
        (502, b"Bad gateway"),
    ],
)
def test_an_answer_that_is_none_is_a_chain_error(status: int, body: bytes) -> None:
    with saying(status, body) as url:
        with pytest.raises(ChainError, match="does not speak JSON-RPC") as error:
            JsonRpc(url).call("eth_chainId")
        assert error.value.exit_code == 5 and error.value.hint
        with pytest.raises(ChainError):
            JsonRpc(url).batch([("eth_chainId", []), ("eth_blockNumber", [])])


def test_an_error_of_the_node_keeps_its_code_and_data() -> None:
    answer = {"jsonrpc": "2.0", "id": 0, "error": {"code": 3, "message": "execution reverted", "data": "0x1234"}}
    with saying(200, json.dumps(answer).encode()) as url, pytest.raises(RpcError, match="reverted") as error:
        JsonRpc(url).call("eth_call")
    assert (error.value.code, error.value.data, error.value.is_revert) == (3, "0x1234", True)


def test_a_node_that_takes_no_batches_is_asked_one_by_one() -> None:
    class Single(QuietHandler):
        def do_POST(self) -> None:
            asked: Any = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if isinstance(asked, list):
                answer = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "no batches"}}
            else:
                answer = {"jsonrpc": "2.0", "id": asked["id"], "result": asked["method"]}
            respond(self, 200, json.dumps(answer).encode())

    with serving(Single) as url:
        assert JsonRpc(url).batch([("a", []), ("b", [])]) == ["a", "b"]


def test_a_rate_limit_is_waited_for_and_then_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RATE_LIMIT_PAUSES_S", (0.05, 0.05))
    with saying(429, b"slow down") as url:
        start = time.monotonic()
        with pytest.raises(ChainError, match="HTTP 429"):
            JsonRpc(url).call("eth_chainId")
        assert time.monotonic() - start >= 0.1


def test_a_node_that_never_answers_is_given_up_in_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.monotonic()
        with pytest.raises(ChainError, match="no answer in time"):
            JsonRpc(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2).call("eth_chainId")
        assert time.monotonic() - start < 20


def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_ANSWER_BYTES", 1000)
    with saying(200, b" " * 5000) as url, pytest.raises(ChainError, match="more than 1000 bytes"):
        JsonRpc(url).call("eth_chainId")


def test_a_kept_connection_that_the_server_closed_is_opened_again() -> None:
    class Once(QuietHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            respond(self, 200, b'{"jsonrpc": "2.0", "id": 0, "result": "0x1"}')
            self.close_connection = True  # without saying so

    with serving(Once) as url:
        node = JsonRpc(url)
        assert [node.call("eth_chainId") for _ in range(3)] == ["0x1"] * 3


def test_threads_share_a_connection() -> None:
    class Echo(QuietHandler):
        def do_POST(self) -> None:
            asked: Any = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            respond(self, 200, json.dumps({"id": asked["id"], "result": asked["params"][0]}).encode())

    with serving(Echo) as url:
        node, results = JsonRpc(url), dict[int, object]()
        threads = [threading.Thread(target=lambda i=i: results.update({i: node.call("echo", i)})) for i in range(8)]  # type: ignore[misc]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == {i: i for i in range(8)}


def test_a_providers_key_in_the_url_is_never_shown() -> None:
    for url in ("http://user:s3cret@127.0.0.1:9/v2/s3cret?key=s3cret", "http://127.0.0.1:9/s3cret"):
        with pytest.raises(ChainError) as error:
            JsonRpc(url, timeout_s=1).call("eth_chainId")
        assert "s3cret" not in error.value.message + error.value.hint + str(error.value)


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8545", "ftp://x/s3cret", "http://", "http://h:port/", "https://h:99999"]
)
def test_what_is_no_url_is_a_usage_error(url: str) -> None:
    with pytest.raises(ConfigError, match="rpc_url") as error:
        JsonRpc(url)
    assert error.value.exit_code == 2 and "s3cret" not in str(error.value)


@pytest.mark.parametrize("value", [None, 5, "", "0x", "zz", {}, []])
def test_what_is_no_quantity_is_a_chain_error(value: Any) -> None:
    with pytest.raises(ChainError, match="where a number was due"):
        quantity(value)


@pytest.mark.parametrize("value", [None, 5, "0xzz", "0x1", {}, []])
def test_what_are_no_bytes_is_a_chain_error(value: Any) -> None:
    with pytest.raises(ChainError, match="not bytes"):
        unhex(value)


def test_signing_leaves_the_recursion_limit_that_stops_nested_json() -> None:
    code = (
        "import sys; limit = sys.getrecursionlimit(); import citrate.registry.signer, web3;"
        "assert sys.getrecursionlimit() == limit"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
