"""Actors of the tests: each with a home and a key of its own, on one chain, through the library that users have."""

from __future__ import annotations

import time
from pathlib import Path

from citrate.core.settings import Settings
from citrate.facade import Registry
from citrate.registry.artifacts import TIMELOCK
from citrate.registry.keys import Keys
from tests.fixtures_anvil import CHAIN_ID, AnvilNode

ETHER = 10**18
_KEYS = {"publisher": 1, "stranger": 2, "validator": 3, "pauper": 4, "buyer": 5, "juror": 6, "reporter": 7}


class Actor(Registry):
    """A user: ``said`` is what its home was told beside results."""

    said: list[str]


def actor(name: str, node: AnvilNode, folder: Path) -> Actor:
    """A user with the key of that name (``""``: none), in a home below ``folder``."""
    home = folder / (name or "nobody")
    said: list[str] = []
    user = Actor(Settings(home=home, rpc_url=node.url, chain_id=CHAIN_ID), notify=said.append)
    user.keys = Keys(home, environ={"CITRATE_PRIVATE_KEY": f"{_KEYS[name]:064x}"} if name else {})
    user.said = said
    if name not in ("", "pauper"):
        node.rpc.call("anvil_setBalance", user.address_of("me"), hex(1000 * ETHER))
    return user


def pass_time(node: AnvilNode, seconds: int) -> None:
    """Let the chain's clock go on."""
    node.rpc.call("evm_increaseTime", seconds)
    node.rpc.call("evm_mine")


def timelocked(node: AnvilNode, user: Registry, contract: str, data: bytes) -> None:
    """Do what only the timelock may, as the timelock: its delay is the contracts' tests' business."""
    timelock = user.chain.require(TIMELOCK)
    node.rpc.call("anvil_setBalance", timelock, hex(ETHER))
    node.rpc.call("anvil_impersonateAccount", timelock)
    sends(node, timelock, user.chain.require(contract), "0x" + data.hex())
    node.rpc.call("anvil_stopImpersonatingAccount", timelock)


def sends(node: AnvilNode, sender: str, to: str, data: str) -> None:
    """A transaction of an account whose key Anvil has; it must succeed."""
    receipt_of(node, {"from": sender, "to": to, "data": data})


def receipt_of(node: AnvilNode, transaction: dict[str, str]) -> dict[str, str]:
    """Have Anvil sign and mine that. Its answer names a transaction that may not be in a block yet."""
    tx_hash = node.rpc.call("eth_sendTransaction", transaction)
    deadline = time.monotonic() + 60
    while (receipt := node.rpc.call("eth_getTransactionReceipt", tx_hash)) is None:
        assert time.monotonic() < deadline, "not mined"
        time.sleep(0.02)
    assert isinstance(receipt, dict) and receipt["status"] == "0x1"
    return receipt
