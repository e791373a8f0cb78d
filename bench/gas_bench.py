"""A fresh chain with all contracts, and the gas of what is sent to them. Used by `gas.py`.

Deterministic: fixed accounts, names, digests and block times. The payload encoders of these benches are their own, so
that a slip in the client's cannot hide in the figures.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.messages import encode_typed_data
from web3 import Web3
from web3.contract import Contract
from web3.contract.contract import ContractFunction

ROOT = Path(__file__).resolve().parent.parent
ABI = ROOT / "citrate" / "registry" / "abi"
HARDFORK = "osaka"
CHAIN_ID = 31337
START = 1_800_000_000  # block times are bytes of the records, so they are fixed too
GAS = 16_000_000
KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"  # Anvil's published first account


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()


def anvil_path() -> Path:
    """The platform's Anvil, as npm installed it; $ANVIL names another."""
    if "ANVIL" in os.environ:
        return Path(os.environ["ANVIL"])
    cpu = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    path = ROOT / "node_modules" / "@foundry-rs" / f"anvil-{sys.platform}-{cpu}" / "bin" / "anvil"
    if not path.exists():
        raise SystemExit(f"no Anvil at {path.relative_to(ROOT)}; run: make setup")
    return path


@contextmanager
def anvil() -> Iterator[Web3]:
    command = [anvil_path(), "--port", "0", "--hardfork", HARDFORK, "--timestamp", str(START)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "Listening on" in line)
            yield Web3(Web3.HTTPProvider("http://" + line.split()[-1], request_kwargs={"timeout": 60}))
        finally:
            process.terminate()


class Bench:
    """All contracts on a fresh chain, governed by the first account, and what was measured."""

    def __init__(self, web3: Web3) -> None:
        self.web3 = web3
        self.first, self.second, self.third = web3.eth.accounts[:3]
        self.clock = START
        self.gas: dict[str, int] = {}
        self.contracts: dict[str, type[Contract] | Contract] = {}
        for name in json.loads((ABI / "stack.json").read_text()):
            self.deploy(name)
        self.call("", self.contracts["Policy"].functions.appoint(self.contracts["Moderation"].address))

    def deploy(self, name: str) -> None:
        """Deploy by CREATE2, with the addresses of earlier contracts as arguments, and note size and gas."""
        artifact = json.loads((ABI / f"{name}.json").read_text())
        given = [self.first if a == "authority" else self.contracts[a].address for a in artifact["arguments"]]
        encoded = self.web3.codec.encode(["address"] * len(given), given)
        code = bytes.fromhex(artifact["bytecode"].removeprefix("0x")) + encoded
        salt = bytes.fromhex(artifact["salt"].removeprefix("0x"))
        self.send(f"{name}: deploy", {"from": self.first, "to": artifact["deployer"], "data": salt + code})
        place = b"\xff" + bytes.fromhex(artifact["deployer"].removeprefix("0x")) + salt + Web3.keccak(code)
        address = Web3.to_checksum_address(Web3.keccak(place)[12:])
        self.contracts[name] = self.web3.eth.contract(address, abi=artifact["abi"])
        self.gas[f"{name}: runtime bytes"] = len(self.web3.eth.get_code(address))
        if not self.gas[f"{name}: runtime bytes"]:
            raise SystemExit(f"{name} is not where CREATE2 puts it")

    def send(self, label: str, transaction: Any) -> None:
        self.clock += 12
        self.web3.provider.make_request("evm_setNextBlockTimestamp", [self.clock])  # type: ignore[arg-type]
        tx_hash = self.web3.eth.send_transaction({"gas": GAS, **transaction})
        receipt = self.web3.eth.wait_for_transaction_receipt(tx_hash)
        if receipt["status"] != 1:
            raise SystemExit(f"{label}: the transaction failed")
        if label:
            self.gas[label] = receipt["gasUsed"]

    def call(self, label: str, function: ContractFunction, sender: str = "", value_wei: int = 0) -> None:
        self.send(label, function.build_transaction({"from": sender or self.first, "gas": GAS, "value": value_wei}))

    def read(self, label: str, function: ContractFunction) -> None:
        """The execution gas of a view, without the 21,000 of a transaction and its calldata."""
        transaction = function.build_transaction({"from": self.first, "gas": 50_000_000})
        data = bytes.fromhex(str(transaction["data"]).removeprefix("0x"))
        used = self.web3.eth.estimate_gas(transaction)
        self.gas[label] = used - 21_000 - sum(16 if byte else 4 for byte in data)

    def mine(self, blocks: int) -> None:
        """Empty blocks, twelve seconds each."""
        self.web3.provider.make_request("anvil_mine", [hex(blocks), hex(12)])  # type: ignore[arg-type]
        self.clock += 12 * blocks

    def sign(self, contract: str, domain: str, name: str, request: dict[str, tuple[str, Any]]) -> bytes:
        """The first account's EIP-712 signature of a request, given as field -> (type, value)."""
        fields = [{"name": field, "type": kind} for field, (kind, _) in request.items()]
        values = {field: value for field, (_, value) in request.items()}
        verifier = self.contracts[contract].address
        about = {"name": domain, "version": "1", "chainId": CHAIN_ID, "verifyingContract": verifier}
        signable = encode_typed_data(about, {name: fields}, values)
        return bytes(Account.sign_message(signable, KEY).signature)
