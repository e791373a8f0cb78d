"""Gas of a release and of a LoRA beside what else could keep them, as real transactions on one Anvil.

    python bench/gas_others.py        print one table, and fail where docs/contracts.md or the snapshot say otherwise

Needs npm, to fetch EAS (eas_package.py).

The contestants get the same data: what our registries answer about a record that was just written to them is written to
all others, and read back from each. `bench/contracts/` says what the two registries of our own making keep.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eas_package import EAS, OPENZEPPELIN, SOLC, Compiled, build_eas, build_own
from gas_bench import HARDFORK, ROOT, Bench, anvil, anvil_path
from gas_loras import BASE, TOLD, lora, lora_id
from gas_models import EIGHT, FOUR, NAME, Variant, release, version_id
from harness import version_of
from hexbytes import HexBytes
from web3.contract import Contract

OURS = "citrate"
STRINGS = "strings in storage"
WORDS = "words in storage"
EAS_PACKED = "EAS, our packed bytes"
EAS_ABI = "EAS, by its schema"
CONTESTANTS = (OURS, STRINGS, WORDS, EAS_PACKED, EAS_ABI)

EMPTY = bytes(32)
NOBODY = "0x" + "00" * 20
RELEASE_TYPES = ["string", "string", "string", "bytes32", "uint256", "(string,string,string,string,bytes32,uint64)[]"]
LORA_TYPES = ["bytes32", *["string"] * 4, "bytes32", "uint64", "uint32", "uint32", "string", "uint32", *["bytes32"] * 3]
RELEASE_SCHEMA = (
    "string name,string version,string licence,bytes32 manifest,uint256 priceWei,"
    "(string format,string quantization,string target,string cid,bytes32 sha256Digest,uint64 sizeBytes)[] variants"
)
LORA_SCHEMA = (
    "bytes32 baseDigest,string name,string version,string licence,string cid,bytes32 sha256Digest,uint64 sizeBytes,"
    "uint32 rank,uint32 alpha,string targetModules,uint32 steps,bytes32 dataset,bytes32 recipe,bytes32 proofRoot"
)
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # a bit each, from bit 0


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    label: str
    snapshot: str = ""
    """The same write in bench/gas-snapshot.json."""
    prototype: int | None = None
    """What the registry's first working prototype used; of some three digits are known."""


ONE_VARIANT = Row("first release of a model, 1 variant", prototype=132_000)
FIRST = Row("first release of a model, 4 variants", "first version, 4 variants", 187_011)
EIGHT_VARIANTS = Row("first release of a model, 8 variants", prototype=260_000)
NEXT = Row("next release, 4 variants", "next version, 4 variants", 165_472)
FIRST_LORA = Row("a creator's first LoRA", "LoRA, first of a creator, hashes told")
NEXT_LORA = Row("next LoRA", "LoRA, next, hashes told")
ROWS = (ONE_VARIANT, FIRST, EIGHT_VARIANTS, NEXT, FIRST_LORA, NEXT_LORA)


@dataclass(frozen=True)
class Release:
    """A release as our registry takes it (`payload`) and as it answers."""

    payload: bytes
    name: str
    version: str
    licence: str
    manifest: bytes
    price_wei: int
    formats: tuple[int, ...]
    variants: Sequence[tuple[str, str, str, str, bytes, int]]
    """Format, quantization, target, CID, SHA-256, bytes."""


@dataclass(frozen=True)
class LoRA:
    """A LoRA as our registry takes it and as it answers, and the name of the version that is its base."""

    payload: bytes
    base_version: str
    base_digest: bytes
    names: tuple[str, str, str]
    cid: str
    sha256: bytes
    size_bytes: int
    rank: int
    alpha: int
    modules: str
    steps: int
    hashes: tuple[bytes, bytes, bytes]


def cid_digest(cid: str) -> bytes:
    """The SHA-256 in a CIDv1 of base32."""
    text = cid[1:].upper()
    return base64.b32decode(text + "=" * (-len(text) % 8))[4:]


def deploy(bench: Bench, compiled: Compiled, *arguments: str) -> Contract:
    factory = bench.web3.eth.contract(abi=compiled.abi, bytecode=compiled.bytecode)
    bench.send("", {"from": bench.first, "data": factory.constructor(*arguments).data_in_transaction})
    (sent,) = bench.web3.eth.get_block("latest")["transactions"]
    assert isinstance(sent, HexBytes)
    address = bench.web3.eth.get_transaction_receipt(sent)["contractAddress"]
    assert address is not None
    return bench.web3.eth.contract(address, abi=compiled.abi)


def same(who: str, written: object, read: object) -> None:
    if written != read:
        raise SystemExit(f"{who}: what was read back is not what was written")


class Ours:
    """The registries of the project; others get what these answer."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def publish(self, label: str, name: str, version: str, variants: tuple[Variant, ...]) -> Release:
        bench, functions = self.bench, self.bench.contracts["ModelRegistry"].functions
        payload = release(name, version, variants)
        bench.call(label, functions.publish(bench.first, payload, ""))
        made = version_id(bench.first, version, name)
        _, _, _, given, number, licence, price_wei, _, _, _, _, manifests, _ = functions.getVersion(made).call()
        kept = functions.getVariants(made).call()
        ordered = sorted(variants, key=lambda v: v.key.ljust(32, b"\0"))
        written = [v.entry(name + version)[-71:] for v in ordered]
        same(OURS, written, [b"\x70" + v[5].to_bytes(6, "big") + cid_digest(v[3]) + v[4] for v in kept])
        formats = tuple(v.format for v in ordered)
        return Release(payload, given, number, licence, manifests[0], price_wei, formats, kept)

    def register(self, label: str, version: str, sender: str, base: str = BASE) -> LoRA:
        bench, functions = self.bench, self.bench.contracts["LoRARegistry"].functions
        payload = lora(bench, version, TOLD, base=base)
        bench.call(label, functions.registerLoRA(sender, payload), sender)
        kept = functions.getLoRA(lora_id(sender, version)).call()
        _, name, number, licence, _, base_digest, cid, sha256, size_bytes, rank, alpha, modules, steps, told = kept[:14]
        same(OURS, TOLD, b"\1" + b"".join(told[:3]))
        names = (name, number, licence)
        content = (cid, sha256, size_bytes, rank, alpha, modules, steps)
        return LoRA(payload, base, base_digest, names, *content, told[:3])


class InStorage:
    """Strings.sol or Words.sol."""

    def __init__(self, bench: Bench, name: str, file: str) -> None:
        self.bench, self.name = bench, name
        self.contract = deploy(bench, build_own(file))
        self.bases: dict[str, bytes] = {}

    def publish(self, label: str, given: Release) -> None:
        variants = [self._variant(number, *v) for number, v in zip(given.formats, given.variants, strict=True)]
        head = (given.name, given.version, given.licence, self._digest(given.manifest), given.price_wei)
        written = (*head, variants)
        self.bench.call(label, self.contract.functions.publish(written))
        made = self._made()
        same(self.name, written, self.contract.functions.getRelease(made).call())
        if given.name == NAME:
            self.bases[given.version] = made

    def register(self, label: str, given: LoRA, sender: str) -> None:
        base, digest = self.bases[given.base_version], self._digest(given.base_digest)
        hashes = tuple(self._digest(h) for h in given.hashes)
        written = (base, digest, *given.names, *self._content(given), given.steps, *hashes)
        self.bench.call(label, self.contract.functions.registerLoRA(written), sender)
        same(self.name, written, self.contract.functions.getLoRA(self._made()).call())

    def _made(self) -> bytes:
        (event,) = self.contract.events.Registered().get_logs(from_block="latest")
        return bytes(event["args"]["id"])

    def _digest(self, digest: bytes) -> Any:
        return digest.hex() if self.name == STRINGS else digest

    def _variant(self, number: int, *variant: Any) -> tuple[Any, ...]:
        kind, quantization, target, cid, sha256, size_bytes = variant
        if self.name == STRINGS:
            return (kind, quantization, target, cid, sha256.hex(), size_bytes)
        texts = (quantization.encode().ljust(15, b"\0"), target.encode().ljust(7, b"\0"))
        return (cid_digest(cid), sha256, size_bytes, 0x70, number, *texts)

    def _content(self, given: LoRA) -> tuple[Any, ...]:
        if self.name == STRINGS:
            content = (given.cid, given.sha256.hex(), given.size_bytes)
            return (*content, given.rank, given.alpha, given.modules)
        bits = sum(1 << MODULES.index(module) for module in given.modules.split(","))
        return (cid_digest(given.cid), given.sha256, given.size_bytes, 0x70, given.rank, given.alpha, bits)


class Eas:
    """EAS without a resolver; a LoRA refers to its base's attestation, which EAS looks up."""

    def __init__(self, bench: Bench, name: str, contracts: tuple[Contract, Contract]) -> None:
        self.bench, self.name = bench, name
        self.registry, self.contract = contracts
        packed = name == EAS_PACKED
        self.release_schema = self._schema("bytes release" if packed else RELEASE_SCHEMA)
        self.lora_schema = self._schema("bytes lora" if packed else LORA_SCHEMA)
        self.bases: dict[str, bytes] = {}

    def publish(self, label: str, given: Release) -> None:
        values = (given.name, given.version, given.licence, given.manifest, given.price_wei, given.variants)
        data = given.payload if self.name == EAS_PACKED else self.bench.web3.codec.encode(RELEASE_TYPES, values)
        uid = self._attest(label, self.release_schema, EMPTY, data, self.bench.first)
        if given.name == NAME:
            self.bases[given.version] = uid

    def register(self, label: str, given: LoRA, sender: str) -> None:
        content = (given.cid, given.sha256, given.size_bytes, given.rank, given.alpha, given.modules, given.steps)
        values = (given.base_digest, *given.names, *content, *given.hashes)
        without_base = given.payload[:32] + given.payload[64:]  # the reference stands for it
        data = without_base if self.name == EAS_PACKED else self.bench.web3.codec.encode(LORA_TYPES, values)
        self._attest(label, self.lora_schema, self.bases[given.base_version], data, sender)

    def _attest(self, label: str, schema: bytes, reference: bytes, data: bytes, sender: str) -> bytes:
        request = (schema, (NOBODY, 0, True, reference, data, 0))
        self.bench.call(label, self.contract.functions.attest(request), sender)
        (event,) = self.contract.events.Attested().get_logs(from_block="latest")
        uid = bytes(event["args"]["uid"])
        same(self.name, data, self.contract.functions.getAttestation(uid).call()[-1])
        return uid

    def _schema(self, text: str) -> bytes:
        self.bench.call("", self.registry.functions.register(text, NOBODY, True))
        (event,) = self.registry.events.Registered().get_logs(from_block="latest")
        return bytes(event["args"]["uid"])


def measure(bench: Bench) -> dict[tuple[str, str], int]:
    """Gas of each row for each contestant."""
    ours = Ours(bench)
    registry, eas = build_eas()
    schemas = deploy(bench, registry)
    real = (schemas, deploy(bench, eas, schemas.address))
    stored = [InStorage(bench, STRINGS, "Strings"), InStorage(bench, WORDS, "Words")]
    others: list[InStorage | Eas] = [*stored, Eas(bench, EAS_PACKED, real), Eas(bench, EAS_ABI, real)]

    def publish(row: Row | None, name: str, version: str, variants: tuple[Variant, ...] = FOUR) -> None:
        label = row.label if row else ""
        made = ours.publish(label and f"{label}|{OURS}", name, version, variants)
        for other in others:
            other.publish(label and f"{label}|{other.name}", made)

    def register(row: Row | None, version: str, sender: str, base: str = BASE) -> None:
        label = row.label if row else ""
        made = ours.register(label and f"{label}|{OURS}", version, sender, base)
        for other in others:
            other.register(label and f"{label}|{other.name}", made, sender)

    publish(None, "warms-the-global-head", "1.0.0")
    publish(ONE_VARIANT, "mistral-7b-instruct1", "1.0.0", FOUR[1:2])
    publish(EIGHT_VARIANTS, "mistral-7b-instruct8", "1.0.0", EIGHT)
    publish(FIRST, NAME, "1.0.0")
    publish(NEXT, NAME, BASE)
    register(None, "1.0.0", bench.third, "1.0.0")
    register(FIRST_LORA, "0.0.0", bench.first)
    register(NEXT_LORA, "0.0.1", bench.first)
    return {(row.label, who): bench.gas[f"{row.label}|{who}"] for row in ROWS for who in CONTESTANTS}


def table(gas: dict[tuple[str, str], int]) -> str:
    """As it stands in docs/contracts.md."""
    lines = [
        f"| gas (times ours) | {' | '.join(CONTESTANTS)} | first prototype |",
        "|---|" + "---:|" * (len(CONTESTANTS) + 1),
    ]
    for row in ROWS:
        ours = gas[row.label, OURS]
        cells = [f"{gas[row.label, who]:,} ({gas[row.label, who] / ours:.2f})" for who in CONTESTANTS[1:]]
        cells.append("" if row.prototype is None else f"{row.prototype:,} ({row.prototype / ours:.2f})")
        lines.append(f"| {row.label} | {ours:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    with anvil() as web3:
        gas = measure(Bench(web3))
    print(
        f"{version_of(str(anvil_path()), '--version')}, {HARDFORK}; {EAS.name} {EAS.version} by solc {SOLC.version} "
        f"with OpenZeppelin {OPENZEPPELIN.version}, the same code as in the package\n"
    )
    print(table(gas))
    snapshot = json.loads((ROOT / "bench" / "gas-snapshot.json").read_text())
    differing = [row.label for row in ROWS if row.snapshot and gas[row.label, OURS] != snapshot[row.snapshot]]
    if differing:
        print(f"ours differs from bench/gas-snapshot.json: {', '.join(differing)}", file=sys.stderr)
    stale = table(gas) not in (ROOT / "docs" / "contracts.md").read_text()
    if stale:
        print("docs/contracts.md shows another table", file=sys.stderr)
    return int(bool(differing) or stale)


if __name__ == "__main__":
    sys.exit(main())
