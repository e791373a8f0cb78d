"""Put the contracts on a chain, at the addresses they have on every chain.

Each contract is created by the deterministic deployment proxy, so that its address follows from its code and salt
alone, whoever pays. Deploying twice sends nothing the second time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

from citrate.core.canonical import Json
from citrate.core.errors import ChainError, CitrateError
from citrate.core.settings import DEVNET_CHAIN_ID
from citrate.registry import artifacts
from citrate.registry.rpc import JsonRpc, is_loopback, quantity, unhex

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


def _require_proxy(rpc: JsonRpc) -> None:
    if rpc.call("eth_getCode", PROXY, "latest") != "0x":
        return
    if quantity(rpc.call("eth_chainId")) != DEVNET_CHAIN_ID or not is_loopback(rpc.url):
        raise CitrateError(
            f"this chain has no deterministic deployment proxy at {PROXY}",
            hint="deploy it first: github.com/Arachnid/deterministic-deployment-proxy",
        )
    rpc.call("hardhat_setCode", PROXY, _PROXY_CODE)


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
