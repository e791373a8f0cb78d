"""The real contracts on a real Anvil: sends transactions of anybody, says how each ended, and asks views in batches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from eth_abi import decode, encode
from eth_utils import function_signature_to_4byte_selector, to_checksum_address

from citrate.registry.rpc import JsonRpc, RpcError
from tests.differential.encoding import Refused

ARTIFACTS = Path(__file__).resolve().parents[2] / "citrate" / "registry" / "abi"
GAS = 16_000_000
_PANIC = bytes.fromhex("4e487b71")


def type_of(parameter: Any) -> str:
    """A parameter's type as signatures write it, tuples spelled out."""
    if not parameter["type"].startswith("tuple"):
        return str(parameter["type"])
    inner = ",".join(type_of(c) for c in parameter["components"])
    return f"({inner}){parameter['type'].removeprefix('tuple')}"


@dataclass(frozen=True)
class Function:
    """One function of a contract."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    is_view: bool

    @cached_property
    def selector(self) -> bytes:
        return function_signature_to_4byte_selector(f"{self.name}({','.join(self.inputs)})")

    def call(self, arguments: Sequence[object]) -> bytes:
        return self.selector + encode(self.inputs, arguments)


@dataclass(frozen=True)
class Contract:
    """A deployed contract."""

    name: str
    address: str
    functions: dict[str, Function]


class Node:
    """An Anvil that sends for everybody, with the contracts of this build on it."""

    def __init__(self, rpc: JsonRpc, start: int) -> None:
        self.rpc = rpc
        self.contracts: dict[str, Contract] = {}
        self._errors: dict[bytes, tuple[str, list[str]]] = {}
        self.time, self.block = start, 0
        rpc.call("anvil_autoImpersonateAccount", True)

    def deploy(self, name: str, sender: str, *arguments: str) -> Contract:
        artifact = json.loads((ARTIFACTS / f"{name}.json").read_text())
        functions = {}
        constructor: list[str] = []
        for entry in artifact["abi"]:
            inputs = [type_of(p) for p in entry.get("inputs", [])]
            if entry["type"] == "constructor":
                constructor = inputs
            elif entry["type"] == "error":
                selector = function_signature_to_4byte_selector(f"{entry['name']}({','.join(inputs)})")
                self._errors[selector] = (entry["name"], inputs)
            elif entry["type"] == "function":
                outputs = tuple(type_of(p) for p in entry["outputs"])
                is_view = entry["stateMutability"] in ("view", "pure")
                functions[entry["name"]] = Function(entry["name"], tuple(inputs), outputs, is_view)
        data = bytes.fromhex(artifact["bytecode"][2:]) + encode(constructor, arguments)
        receipt = self._transact({"from": sender, "data": "0x" + data.hex()}, self.time + 1)
        contract = Contract(name, to_checksum_address(str(receipt["contractAddress"])), functions)
        self.contracts[name] = contract
        return contract

    def send(
        self, sender: str, contract: str, function: str, arguments: Sequence[object], value: int, time: int
    ) -> Refused | None:
        """Send in a block at ``time``; returns why it was refused, None if it was not."""
        to = self.contracts[contract]
        data = to.functions[function].call(arguments)
        transaction = {"from": sender, "to": to.address, "data": "0x" + data.hex(), "value": hex(value)}
        receipt = self._transact(transaction, time)
        if receipt["status"] == "0x1":
            return None
        trace: Any = self.rpc.call("debug_traceTransaction", receipt["transactionHash"], {"tracer": "callTracer"})
        return self.error(bytes.fromhex(trace.get("output", "0x")[2:]))

    def mine(self, blocks: int, time: int) -> None:
        """Add empty blocks, the last of them at ``time``."""
        if blocks > 1:
            self.rpc.call("anvil_mine", hex(blocks - 1), "0x0")
        self.rpc.call("evm_setNextBlockTimestamp", time)
        self.rpc.call("anvil_mine", "0x1")
        self.time, self.block = time, self.block + blocks

    def ask(self, calls: Sequence[tuple[str, bytes]]) -> list[bytes | Refused]:
        """Call views (address, calldata) in the newest block."""
        requests = [("eth_call", [{"to": to, "data": "0x" + data.hex()}, "latest"]) for to, data in calls]
        answers = self.rpc.batch(requests)  # type: ignore[arg-type]  # JSON all the same
        return [self._answer(answer) for answer in answers]

    def code(self, accounts: Sequence[str]) -> list[bytes]:
        answers: list[Any] = self.rpc.batch([("eth_getCode", [account, "latest"]) for account in accounts])
        return [bytes.fromhex(answer[2:]) for answer in answers]

    def balance(self, account: str) -> int:
        return int(str(self.rpc.call("eth_getBalance", account, "latest")), 16)

    def hash_of(self, block: int) -> bytes:
        answer: Any = self.rpc.call("eth_getBlockByNumber", hex(block), False)
        return bytes.fromhex(answer["hash"][2:])

    def error(self, data: bytes) -> Refused:
        """A revert's data as the error it is."""
        if data[:4] not in self._errors:
            return Refused("panic" if data[:4] == _PANIC else "without an error of ours", data)
        name, types = self._errors[data[:4]]
        return Refused(name, *map(_plain, decode(types, data[4:])))

    def _answer(self, answer: Any) -> bytes | Refused:
        if isinstance(answer, RpcError):
            return self.error(bytes.fromhex(answer.data.removeprefix("0x")))
        return bytes.fromhex(answer[2:])

    def _transact(self, transaction: dict[str, Any], time: int) -> Any:
        self.rpc.call("evm_setNextBlockTimestamp", time)
        tx_hash = self.rpc.call("eth_sendTransaction", {**transaction, "gas": hex(GAS), "gasPrice": "0x0"})
        self.rpc.call("anvil_mine", "0x1")
        receipt: Any = self.rpc.call("eth_getTransactionReceipt", tx_hash)
        assert receipt is not None, "the transaction is in no block"
        self.time, self.block = time, int(receipt["blockNumber"], 16)
        return receipt


def _plain(value: object) -> object:
    """Addresses with their checksum, as the models have them."""
    return (
        to_checksum_address(value) if isinstance(value, str) and value.startswith("0x") and len(value) == 42 else value
    )
