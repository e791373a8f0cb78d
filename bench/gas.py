"""Gas of every write to the registry, as real transactions on Anvil, compared with a committed snapshot.

    python bench/gas.py            measure and print, beside bench/gas-snapshot.json
    python bench/gas.py --check    the same, and fail on any difference from the snapshot
    python bench/gas.py --write    the same, and write the snapshot

Deterministic: fixed accounts, names, digests and block times. The payload encoder here is the bench's own, so that a
slip in the client's cannot hide in the figures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.messages import encode_typed_data
from web3 import Web3
from web3.contract import Contract
from web3.contract.contract import ContractFunction

ROOT = Path(__file__).resolve().parent.parent
SNAPSHOT = ROOT / "bench" / "gas-snapshot.json"
ARTIFACT = ROOT / "citrate" / "registry" / "abi" / "ModelRegistry.json"
HARDFORK = "osaka"
CHAIN_ID = 31337
START = 1_800_000_000  # block times are bytes of the records, so they are fixed too
NAME = "mistral-7b-instruct2"  # 20 characters
KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"  # Anvil's published first account

GOALS = {
    "first version, 4 variants": 192_000,
    "next version, 4 variants": 174_000,
    "add 1 variant": 115_000,
    "alias, first": 56_000,
    "alias, moved": 39_000,
    "runtime bytes": 13_312,
}
"""What was asked for; docs/decisions/record-accounts.md says why two are missed, and by what."""


@dataclass(frozen=True)
class Variant:
    """One variant as the payload wants it."""

    format: int
    quantization: str
    target: str = ""

    @property
    def key(self) -> bytes:
        lengths = len(self.quantization) << 4 | len(self.target)
        return bytes([self.format, lengths]) + self.quantization.encode() + self.target.encode()

    def entry(self, tag: str) -> bytes:
        cid = digest(f"cid {tag} {self.key!r}")
        size = 4_294_967_296 + int.from_bytes(cid[:4], "big")
        return self.key + b"\x70" + size.to_bytes(6, "big") + cid + digest(f"sha {tag} {self.key!r}")


FOUR = (Variant(1, "BF16"), Variant(2, "Q4_K_M"), Variant(3, "4bit"), Variant(4, "fp8", "sm90"))
EIGHT = (*FOUR, Variant(2, "Q5_K_M"), Variant(2, "Q8_0"), Variant(2, "IQ4_XS"), Variant(4, "int4", "sm89"))


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def packed(variants: tuple[Variant, ...], tag: str) -> bytes:
    return b"".join(v.entry(tag) for v in sorted(variants, key=lambda v: v.key.ljust(32, b"\0")))


def release(name: str, version: str, variants: tuple[Variant, ...], price: bytes = bytes(4)) -> bytes:
    def text(value: str) -> bytes:
        return bytes([len(value)]) + value.encode()

    body = digest(f"manifest {name} {version}") + price + text(version) + text("apache-2.0")
    return text(name) + body + packed(variants, name + version)


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
    """One registry on a fresh chain, and the gas of what was sent to it."""

    def __init__(self, web3: Web3) -> None:
        self.web3 = web3
        self.publisher, self.stranger = web3.eth.accounts[:2]
        self.clock = START
        self.gas: dict[str, int] = {}
        artifact = json.loads(ARTIFACT.read_text())
        data = artifact["salt"] + artifact["bytecode"].removeprefix("0x")
        self.send("deploy", {"from": self.publisher, "to": artifact["deployer"], "data": data})
        self.registry: type[Contract] | Contract = web3.eth.contract(artifact["address"], abi=artifact["abi"])
        self.gas["runtime bytes"] = len(web3.eth.get_code(artifact["address"]))
        self.gas["initcode bytes"] = len(artifact["bytecode"]) // 2 - 1

    def send(self, label: str, transaction: Any) -> None:
        self.clock += 12
        self.web3.provider.make_request("evm_setNextBlockTimestamp", [self.clock])  # type: ignore[arg-type]
        tx_hash = self.web3.eth.send_transaction({"gas": 16_000_000, **transaction})
        receipt = self.web3.eth.wait_for_transaction_receipt(tx_hash)
        if receipt["status"] != 1:
            raise SystemExit(f"{label}: the transaction failed")
        if label:
            self.gas[label] = receipt["gasUsed"]

    def call(self, label: str, function: ContractFunction, sender: str = "") -> None:
        self.send(label, function.build_transaction({"from": sender or self.publisher, "gas": 16_000_000}))

    def publish(
        self, label: str, version: str, variants: tuple[Variant, ...], name: str = NAME, alias: str = ""
    ) -> None:
        payload = release(name, version, variants)
        self.call(label, self.registry.functions.publish(self.publisher, payload, alias))

    def publish_signed(self, label: str, version: str, variants: tuple[Variant, ...], name: str, nonce: int) -> None:
        request = {
            "publisher": self.publisher,
            "release": release(name, version, variants),
            "aliasName": "",
            "nonce": nonce,
            "deadline": 2**40,
        }
        types = {"publisher": "address", "release": "bytes", "aliasName": "string", "nonce": "uint256"}
        fields = [{"name": k, "type": t} for k, t in (types | {"deadline": "uint256"}).items()]
        domain = {"name": "Citrate", "version": "1", "chainId": CHAIN_ID, "verifyingContract": self.registry.address}
        signed = Account.sign_message(encode_typed_data(domain, {"Publish": fields}, request), KEY)
        publish = self.registry.functions.publishBySig(self.publisher, request["release"], "", 2**40, signed.signature)
        self.call(label, publish, self.stranger)

    def read(self, label: str, function: ContractFunction) -> None:
        """The execution gas of a view, without the 21,000 of a transaction and its calldata."""
        transaction = function.build_transaction({"from": self.publisher, "gas": 50_000_000})
        data = bytes.fromhex(str(transaction["data"]).removeprefix("0x"))
        used = self.web3.eth.estimate_gas(transaction)
        self.gas[label] = used - 21_000 - sum(16 if byte else 4 for byte in data)


def measure(web3: Web3) -> dict[str, int]:
    bench = Bench(web3)
    functions = bench.registry.functions
    publisher = bench.publisher
    bench.publish("", "1.0.0", FOUR, name="warms-the-global-head")
    bench.publish("first version, 4 variants", "1.0.0", FOUR)
    bench.publish("next version, 4 variants", "1.0.1", FOUR)
    bench.publish("next version, 1 variant", "1.0.2", FOUR[1:2])
    bench.publish("next version, 8 variants", "1.0.3", EIGHT)
    bench.publish("next version, 4 variants, with a new alias", "1.0.4", FOUR, alias="staging")
    bench.publish_signed("first version, 4 variants, relayed", "1.0.0", FOUR, "mistral-7b-instruct3", 0)
    bench.publish_signed("next version, 4 variants, relayed", "1.0.1", FOUR, "mistral-7b-instruct3", 1)
    addition = digest("manifest two") + packed(EIGHT[5:6], "addition")
    bench.call("add 1 variant", functions.addVariants(publisher, NAME, "1.0.1", addition))
    addition = digest("manifest three") + packed(EIGHT[4:5], "addition")
    bench.call("add 1 variant, second time", functions.addVariants(publisher, NAME, "1.0.1", addition))
    bench.call("alias, first", functions.setAlias(publisher, NAME, "prod", "1.0.0"))
    bench.call("alias, moved", functions.setAlias(publisher, NAME, "prod", "1.0.1"))
    bench.call("deprecate, no replacement", functions.deprecate(publisher, NAME, "1.0.0", bytes(32)))
    model_id = Web3.keccak(web3.codec.encode(["address", "string"], [publisher, NAME]))
    version_id = Web3.keccak(web3.codec.encode(["bytes32", "string"], [model_id, "1.0.4"]))
    bench.call("deprecate, with replacement", functions.deprecate(publisher, NAME, "1.0.2", version_id))
    bench.read("read getVersion", functions.getVersion(version_id))
    bench.read("read termsOf", functions.termsOf(version_id))
    bench.read("read getVariants, 4 variants", functions.getVariants(version_id))
    bench.read("read resolve, a version", functions.resolve(publisher, NAME, "1.0.4"))
    bench.read("read resolve, an alias", functions.resolve(publisher, NAME, "prod"))
    bench.read("read resolve, latest", functions.resolve(publisher, NAME, "latest"))
    bench.call("transfer, offer", functions.transferModel(publisher, NAME, bench.stranger))
    bench.call("transfer, accept", functions.acceptModel(model_id), bench.stranger)
    moved = functions.publish(publisher, release(NAME, "2.0.0", FOUR), "")
    bench.call("next version, 4 variants, after a transfer", moved, bench.stranger)
    return bench.gas


def show(gas: dict[str, int], before: dict[str, int]) -> None:
    for label in sorted(gas.keys() | before.keys(), key=lambda x: list(gas).index(x) if x in gas else 99):
        now, then, goal = gas.get(label), before.get(label), GOALS.get(label)
        change = "" if now == then else f"{(now or 0) - (then or 0):+,}"
        met = "" if goal is None or now is None else f"goal {goal:,} ({(now - goal) / goal:+.1%})"
        print(f"{label:46}{now if now is not None else 'gone':>12,}  {change:>10}  {met}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail on any difference from the snapshot")
    parser.add_argument("--write", action="store_true", help="write the snapshot")
    arguments = parser.parse_args()
    with anvil() as web3:
        gas = measure(web3)
    before = json.loads(SNAPSHOT.read_text()) if SNAPSHOT.exists() else {}
    show(gas, before)
    if arguments.write:
        SNAPSHOT.write_text(json.dumps(gas, indent=2) + "\n")
        return 0
    if arguments.check and gas != before:
        print(
            "\ngas differs from bench/gas-snapshot.json; if that is meant: python bench/gas.py --write", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
