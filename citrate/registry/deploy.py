"""Put the contracts on a chain, at the addresses they have on every chain.

Each contract is created by the deterministic deployment proxy, so that its address follows from its code and salt
alone, whoever pays. Deploying twice sends nothing the second time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from citrate.core.canonical import Json
from citrate.core.errors import ChainError, CitrateError
from citrate.core.settings import DEVNET_CHAIN_ID
from citrate.registry import artifacts
from citrate.registry.rpc import JsonRpc, is_loopback, quantity, unhex

if TYPE_CHECKING:
    from citrate.registry.chain import TransactionSender
    from citrate.registry.signer import Signer

PROXY = "0x4e59b44847b379578588920cA78FbF26c0B4956C"
"""The keyless CREATE2 proxy that most chains have (github.com/Arachnid/deterministic-deployment-proxy)."""
_PROXY_CODE = (
    "0x7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f5801515"
    "6039578182fd5b8082525050506014600cf3"
)
_RECEIPT_TIMEOUT_S = 15.0


class Sender(Protocol):
    """Sends a transaction and waits until it is in a block."""

    def send(self, to: str, data: bytes) -> None:
        """Send ``data`` to ``to``.

        Raises:
            CitrateError: it was refused, reverted or not mined in time.
        """
        ...


def addresses() -> Mapping[str, str]:
    """Contract name -> the address that this build has on every chain."""
    return {name: artifacts.load(name).address for name in artifacts.shipped()}


def missing(rpc: JsonRpc) -> tuple[str, ...]:
    """The contracts of this build that the chain does not have yet."""
    names = artifacts.shipped()
    codes = rpc.batch([("eth_getCode", [artifacts.load(name).address, "latest"]) for name in names])
    return tuple(name for name, code in zip(names, codes, strict=True) if not unhex(code))


def deploy(rpc: JsonRpc, sender: Sender) -> Mapping[str, str]:
    """Deploy what is missing and compare the code of all with this build.

    Returns:
        Contract name -> address.

    Raises:
        CitrateError: the chain lacks the deployment proxy.
        ChainError: the chain does not answer, or the code at an address is not ours after all.
    """
    absent = missing(rpc)
    if absent:
        _require_proxy(rpc)
    for name in absent:
        artifact = artifacts.load(name)
        sender.send(PROXY, artifact.salt + artifact.init_code)
    for name, address in addresses().items():
        if not artifacts.load(name).is_code_of(unhex(rpc.call("eth_getCode", address, "latest"))):
            raise ChainError(f"{name} did not arrive at {address}", hint="citrate deploy-contracts")
    return addresses()


def deploy_with_key(
    rpc_url: str, expected_chain_id: int, home: Path, unlock: Callable[[int], Signer]
) -> Mapping[str, str]:
    """Deploy what a chain lacks, paid by a key.

    Args:
        rpc_url: the chain.
        expected_chain_id: refused if the node answers another; 0 takes any.
        home: where the key's turn is kept (`citrate.registry.chain.TransactionSender`).
        unlock: given the chain's id, the key that pays; not called if nothing is missing.

    Returns:
        Contract name -> address.

    Raises:
        CitrateError: the chain lacks the deployment proxy, or the key cannot pay.
        ChainError: another chain, or no answer.
    """
    from citrate.registry.chain import TransactionSender
    from citrate.registry.contract import require_chain

    rpc = JsonRpc(rpc_url)
    chain_id = require_chain(rpc, expected_chain_id)
    if not missing(rpc):
        return deploy(rpc, _Nobody())
    return deploy(rpc, _KeySender(TransactionSender(rpc, chain_id, home), unlock(chain_id)))


def _require_proxy(rpc: JsonRpc) -> None:
    if rpc.call("eth_getCode", PROXY, "latest") != "0x":
        return
    if quantity(rpc.call("eth_chainId")) != DEVNET_CHAIN_ID or not is_loopback(rpc.url):
        raise CitrateError(
            f"this chain has no deterministic deployment proxy at {PROXY}",
            hint="deploy it first: github.com/Arachnid/deterministic-deployment-proxy",
        )
    rpc.call("hardhat_setCode", PROXY, _PROXY_CODE)


class _Nobody:
    def send(self, to: str, data: bytes) -> None:
        raise AssertionError(f"nothing is missing, so nothing is sent to {to}: {data[:4].hex()}")


class _KeySender:
    def __init__(self, sender: TransactionSender, signer: Signer) -> None:
        self._sender = sender
        self._signer = signer

    def send(self, to: str, data: bytes) -> None:
        self._sender.send(self._signer, to, data)


class UnlockedSender:
    """Sends from the development account that a local node itself holds the key of."""

    def __init__(self, rpc: JsonRpc) -> None:
        self._rpc = rpc

    def send(self, to: str, data: bytes) -> None:
        """See ``Sender.send``; a local node mines as soon as it can."""
        accounts = self._rpc.call("eth_accounts")
        if not isinstance(accounts, list) or not accounts:
            raise ChainError("the local chain has no development account", hint="citrate devnet reset")
        transaction = {"from": accounts[0], "to": to, "data": "0x" + data.hex()}
        tx_hash = self._rpc.call("eth_sendTransaction", transaction)
        receipt = self._receipt(tx_hash)
        if not isinstance(receipt, dict) or receipt.get("status") != "0x1":
            raise ChainError("the local chain took no deployment", hint="citrate devnet reset", tx_hash=str(tx_hash))

    def _receipt(self, tx_hash: Json) -> Json:
        deadline = time.monotonic() + _RECEIPT_TIMEOUT_S
        while time.monotonic() < deadline:
            receipt = self._rpc.call("eth_getTransactionReceipt", tx_hash)
            if receipt is not None:
                return receipt
            time.sleep(0.02)
        return None
