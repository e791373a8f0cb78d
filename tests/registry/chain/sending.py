"""What the tests of sending share: a chain of their own, and a target that counts how often it was called.

That number, in its first slot, is what those tests are about.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from citrate.registry.delivery import Sending
from citrate.registry.fees import GWEI
from citrate.registry.rpc import JsonRpc, quantity
from citrate.registry.signer import Signer
from citrate.registry.transactions import Receipt, TransactionSender
from tests.fixtures_anvil import CHAIN_ID, AnvilNode, signer_of, start_anvil, stop_anvil

ROOT = Path(__file__).resolve().parents[3]
COUNTER = "0x" + "10" * 20
COUNTER_CODE = "0x60016000540160005500"  # sstore(0, sload(0) + 1)
QUICK = Sending(confirmations=0, patience_s=0.3, timeout_s=60)
HASTY = Sending(confirmations=0, patience_s=60, timeout_s=0.4)


@pytest.fixture(name="node")
def counting_node() -> Iterator[AnvilNode]:
    """A chain of the test's own, with the counter and two funded keys."""
    import web3  # noqa: F401  # the first to send imports it, for seconds on a busy machine: not in a test's own time

    running = start_anvil()
    running.rpc.call("anvil_setCode", COUNTER, COUNTER_CODE)
    for name in ("publisher", "stranger"):
        running.rpc.call("anvil_setBalance", signer_of(name).address, hex(10**21))
    yield running
    stop_anvil(running)


@pytest.fixture(name="stopped")
def stopped_node(node: AnvilNode) -> AnvilNode:
    """The same, and no block is made but by ``mine``."""
    node.rpc.call("evm_setAutomine", False)
    return node


@pytest.fixture(name="home")
def sent_home(tmp_path: Path) -> Path:
    return tmp_path / "home"


class Sender:
    """A sender with what it said on its way."""

    def __init__(self, url: str, home: Path, sending: Sending = QUICK) -> None:
        self.said: list[str] = []
        self._sender = TransactionSender(JsonRpc(url), CHAIN_ID, home, sending, self.said.append)

    def count(self, signer: Signer, tag: int = 0, value: int = 0) -> Receipt:
        """Call the counter; calls of another ``tag`` are other actions."""
        return self._sender.send(signer, COUNTER, tag.to_bytes(4, "big"), value)

    def estimate(self, address: str, value: int = 0) -> int:
        return self._sender.estimate(address, COUNTER, b"", value).gas


def counted(node: AnvilNode) -> int:
    return quantity(node.rpc.call("eth_getStorageAt", COUNTER, "0x0", "latest"))


def nonce(node: AnvilNode, signer: Signer) -> int:
    return quantity(node.rpc.call("eth_getTransactionCount", signer.address, "latest"))


def mine(node: AnvilNode, blocks: int = 1) -> None:
    for _ in range(blocks):
        node.rpc.call("evm_mine")


def pool(node: AnvilNode) -> list[dict[str, Any]]:
    content: Any = node.rpc.call("txpool_content")
    return [transaction for by_nonce in content["pending"].values() for transaction in by_nonce.values()]


def until(true: Callable[[], object], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.02)


@contextmanager
def background(send: Callable[[], Receipt]) -> Iterator[Future[Receipt]]:
    with ThreadPoolExecutor(1) as threads:
        yield threads.submit(send)


def rival(node: AnvilNode, signer: Signer, at: int, gwei: int) -> str:
    """What another program sends with the same key: ether to nobody, which is not our action."""
    transaction = {
        "type": 2, "chainId": CHAIN_ID, "nonce": at, "to": "0x" + "11" * 20, "value": 1, "data": b"", "gas": 30_000,
        "maxFeePerGas": gwei * GWEI, "maxPriorityFeePerGas": gwei * GWEI,
    }  # fmt: skip
    raw, tx_hash = signer.sign_transaction(transaction)
    node.rpc.call("eth_sendRawTransaction", "0x" + raw.hex())
    return tx_hash
