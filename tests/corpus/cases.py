"""Payloads that try the contracts' decoders: well formed, damaged, malformed; and what the model says of each.

    python -m tests.corpus.cases     write tests/corpus/payloads.txt again

The file has a line for each: what it is, the call it goes to, the payload, and `accepted` or the error's bytes. Lines
of the kind `given-...` are carried out first and stay. Corpus.t.sol asks the contracts, test_corpus.py asks Python.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from eth_abi import encode
from eth_utils import function_signature_to_4byte_selector

from citrate.registry.ethereum import Account
from tests.differential.encoding import (
    ZERO,
    ZERO_WORD,
    Refused,
    Variant,
    digest,
    lora_id,
    model_id,
    name_id,
    pack_release,
    pack_variants,
    text,
)
from tests.differential.lora_model import LedgerModel, LoRAModel
from tests.differential.node import ARTIFACTS, type_of
from tests.differential.registry_model import Now, RegistryModel

FILE = Path(__file__).with_name("payloads.txt")
PUBLISHER = Account.from_key((0xA11CE).to_bytes(32, "big")).address
CREATOR = Account.from_key((0xB0B).to_bytes(32, "big")).address  # of the tried LoRAs: the given ones use up a quota
NOW = Now(1_800_000_000, 1)
BASE_NAME, BASE_VERSION = "base", "1.0.0"
BASE = name_id(model_id(PUBLISHER, BASE_NAME), BASE_VERSION)
RESULT = name_id(model_id(PUBLISHER, BASE_NAME), "2.0.0")


@dataclass(frozen=True)
class Case:
    """One line of the file."""

    what: str
    kind: str
    payload: bytes
    verdict: str = ""


def variant(number: int = 2, quantization: str = "Q4_K_M", target: str = "", tag: object = 0) -> Variant:
    return Variant(number, quantization, target, 0x55, 4096, digest("cid", tag), digest("sha", tag))


def release(name: str = "tiny", version: str = "1.0.0", variants: list[Variant] | None = None) -> bytes:
    return pack_release(name, digest("manifest"), bytes(4), version, "apache-2.0", variants or [variant()])


def lora(
    name: str = "style",
    version: str = "1",
    size: int = 1000,
    rank: int = 8,
    alpha: int = 16_000,
    bits: int = 3,
    others: bytes = b"",
    training: bytes = b"\0",
) -> bytes:
    where = bytes([0x70]) + size.to_bytes(4, "big") + digest("lora cid") + digest("lora sha")
    how = rank.to_bytes(2, "big") + alpha.to_bytes(4, "big") + bits.to_bytes(2, "big") + text(others)
    names = text(name) + text(version) + text("apache-2.0")
    return digest("sha", "given") + BASE + names + where + how + (100).to_bytes(4, "big") + training


def given() -> list[Case]:
    """A base, a version that results from merges, and nine LoRAs of the base."""
    base = release(BASE_NAME, BASE_VERSION, [variant(1, "", tag="given"), variant(tag="given too")])
    cases = [Case("the base", "given-release", base), Case("a result", "given-release", release(BASE_NAME, "2.0.0"))]
    return cases + [Case(f"parent {i}", "given-lora", lora(version=str(i))) for i in range(9)]


def parent_ids() -> list[bytes]:
    return sorted(lora_id(PUBLISHER, "style", str(i)) for i in range(9))


def releases() -> Iterator[tuple[str, bytes]]:
    yield "the smallest", pack_release("a", digest(1), bytes(4), "0", "x", [variant(2, "")])
    full = "x" * 15
    names = [chr(97 + i % 26) * (1 + i // 26) + full[1 + i // 26 :] for i in range(64)]
    many = [variant(2, name[:15], "sm" + "9" * 13, i) for i, name in enumerate(names)]
    yield "the largest", pack_release("n" * 64, digest(2), b"\xff\xff\xff\x3c", "v" * 31 + "+", "~" * 64, many)
    yield "one variant too many", release(variants=[*many, variant(3, "z")])
    for number in range(6):
        yield f"format {number}", release(variants=[variant(number)])
    for codec in (0x00, 0x55, 0x70, 0x71, 0xFF):
        yield f"codec {codec:#x}", release(variants=[replace(variant(), codec=codec)])
    yield "size zero", release(variants=[replace(variant(), size_bytes=0)])
    yield "size 2^48 - 1", release(variants=[replace(variant(), size_bytes=2**48 - 1)])
    yield "no CID", release(variants=[replace(variant(), cid=ZERO_WORD)])
    yield "no digest", release(variants=[replace(variant(), sha256=ZERO_WORD)])
    for label in (".x", "-", "a b", "a/b", "ä"[:0] + "a\x80", "Q4_K_M.v1+x-y"):
        packed = variant(2, "12345").pack().replace(b"12345", label.encode("latin-1")[:5].ljust(5, b"y"))
        yield f"quantization {label!r}", release()[: -len(variant().pack())] + packed
    one, other = variant(2, "a").pack(), variant(2, "b").pack()
    start = release()[: -len(variant().pack())]
    yield "order reversed", start + other + one
    yield "the same twice", start + one + one
    yield "no variant", start
    yield "no manifest", release().replace(digest("manifest"), ZERO_WORD)
    for price in (b"\0\0\x01\0", b"\0\0\0\1", b"\0\0\1\x3c", b"\0\0\1\x3d", b"\0\0\1\xff", b"\xff\xff\xff\0"):
        yield f"price {price.hex()}", pack_release("tiny", digest(3), price, "1", "MIT", [variant()])
    for name in ("Tiny", "-tiny", "ti ny", "t" * 65, "", "../x", "tiny\n", "tiny.", "0_-."):
        yield f"name {name[:8]!r}", release(name)
    for version in ("latest", "Latest", "v" * 33, "+1", "1+", "1\0", "1.0.0-rc.1+b"):
        yield f"version {version[:8]!r}", release(version=version)
    for licence in ("", "l" * 65, "a\tb", "~ !", "a\x7f"):
        yield f"licence {licence[:8]!r}", pack_release("tiny", digest(4), bytes(4), "1", licence, [variant()])
    yield "a byte too many", release() + b"\0"
    yield "a text that goes on behind the end", b"\xff" + release()[1:]
    yield from damaged("release", release(variants=[variant(1, ""), variant(4, "fp8", "sm90")]))


def additions() -> Iterator[tuple[str, bytes]]:
    yield "the smallest", digest(5) + pack_variants([variant(3, "4bit")])
    yield "a variant that is there", digest(5) + pack_variants([variant(1, ""), variant(3, "4bit")])
    yield "the other that is there", digest(5) + pack_variants([variant(), variant(3, "4bit")])
    yield "no variant", digest(5)
    yield "no manifest", ZERO_WORD + pack_variants([variant(3)])
    yield from damaged("addition", digest(5) + pack_variants([variant(3, "4bit"), variant(4, "fp8", "sm90")]))


def loras() -> Iterator[tuple[str, bytes]]:
    told = digest("dataset") + digest("recipe")
    for size in (0, 1, 500_000_000, 500_000_001, 2**32 - 1):
        yield f"size {size}", lora("own", size=size)
    for rank in (0, 1, 4096, 4097, 65535):
        yield f"rank {rank}", lora("own", rank=rank)
    yield "no alpha", lora("own", alpha=0)
    yield "every module with a bit", lora("own", bits=0xFFFF, others=b"wte")
    for others in (b"", b"wte", b"a,b,c", b"a,,b", b",a", b"a,", b",", b"a b", b"a\nb", b"x" * 255):
        yield f"other modules {others[:8]!r} alone", lora("own", bits=0, others=others)
    for training in (b"\1" + told + ZERO_WORD, b"\1" + told + digest("proof"), b"\2" + (7).to_bytes(8, "big")):
        yield f"training {training[0]}", lora("own", training=training)
    for training in (b"\1" + ZERO_WORD + told, b"\1" + told[:32] + ZERO_WORD * 2, b"\2" + bytes(8), b"\3", b"", b"\1"):
        yield f"training {training[:2].hex()} that tells nothing", lora("own", training=training)
    yield "another creator's name", lora(version="1")
    yield "no such name", lora("Own")
    yield "version latest", lora("own", "latest")
    yield "another base", lora("own").replace(BASE, RESULT)
    yield "no such base", lora("own").replace(BASE, digest("nothing"))
    yield from damaged("lora", lora("own", others=b"wte", training=b"\1" + told + digest("proof")))


def parents() -> Iterator[tuple[str, bytes]]:
    ids = parent_ids()

    def packed(weights: list[int], which: list[bytes] | None = None) -> bytes:
        return b"".join(i + w.to_bytes(2, "big") for i, w in zip(which or ids, weights, strict=False))

    yield "one", packed([10_000])
    yield "eight", packed([1250] * 8)
    yield "nine", packed([1111] * 8 + [1112])
    yield "none", b""
    yield "cut off", packed([5000, 5000])[:-1]
    yield "out of order", packed([5000, 5000], ids[1::-1])
    yield "one twice", packed([5000, 5000], [ids[0], ids[0]])
    yield "a weight of zero", packed([10_000, 0])
    yield "too much", packed([5000, 5001])
    yield "so much that 16 bits overflow", packed([65535, 10_001])
    yield "one that is not there", packed([10_000], [digest("nothing")])
    yield from damaged("parents", packed([4000, 6000]), 24)


def damaged(what: str, payload: bytes, count: int = 60) -> Iterator[tuple[str, bytes]]:
    """The payload cut off, with a byte changed, with bytes put in; always the same ones."""
    chance = random.Random(what)
    for i in range(count):
        at = chance.randrange(len(payload))
        value = chance.choice((payload[at] ^ 1 << chance.randrange(8), 0, 255, payload[at] ^ 0x10))
        kind = i % 4
        if kind == 0:
            yield f"cut off at {at}", payload[:at]
        elif kind == 3:
            yield f"{value:#x} put in at {at}", payload[:at] + bytes([value]) + payload[at:]
        else:
            yield f"{value:#x} at {at}", payload[:at] + bytes([value]) + payload[at + 1 :]


class Judge:
    """What the models say of a payload, each time in the state that the given ones leave."""

    def __init__(self) -> None:
        self._errors = dict(_errors())
        self.state()

    def state(self) -> None:
        self.registry = RegistryModel(ZERO)
        self.loras = LoRAModel(ZERO, self.registry, LedgerModel())
        for case in given():
            self._do(case.kind.removeprefix("given-"), case.payload, PUBLISHER)

    def verdict(self, kind: str, payload: bytes) -> str:
        try:
            self._do(kind, payload, CREATOR)
        except Refused as refusal:
            types = self._errors[refusal.error]
            selector = function_signature_to_4byte_selector(f"{refusal.error}({','.join(types)})")
            return "0x" + (selector + encode(types, refusal.arguments)).hex()
        self.state()
        return "accepted"

    def _do(self, kind: str, payload: bytes, creator: str) -> None:
        if kind == "release":
            self.registry.publish(NOW, PUBLISHER, PUBLISHER, payload, "")
        elif kind == "addition":
            self.registry.add_variants(NOW, PUBLISHER, PUBLISHER, BASE_NAME, BASE_VERSION, payload)
        elif kind == "lora":
            self.loras.register(NOW, creator, creator, payload)
        else:
            self.loras.merge(NOW, PUBLISHER, RESULT, payload)


def _errors() -> Iterator[tuple[str, list[str]]]:
    for name in ("ModelRegistry", "LoRARegistry"):
        for entry in json.loads((ARTIFACTS / f"{name}.json").read_text())["abi"]:
            if entry["type"] == "error":
                yield entry["name"], [type_of(p) for p in entry["inputs"]]


def corpus() -> list[Case]:
    judge = Judge()
    cases = [replace(case, verdict="accepted") for case in given()]
    for kind, made in (("release", releases()), ("addition", additions()), ("lora", loras()), ("parents", parents())):
        cases += [Case(what, kind, payload, judge.verdict(kind, payload)) for what, payload in made]
    return cases


def dump(cases: list[Case]) -> str:
    return "".join(f"{c.kind} 0x{c.payload.hex()} {c.verdict} {c.what}\n" for c in cases)


def load() -> list[Case]:
    lines = (line.split(" ", 3) for line in FILE.read_text().splitlines())
    return [Case(what, kind, bytes.fromhex(payload[2:]), verdict) for kind, payload, verdict, what in lines]


if __name__ == "__main__":
    FILE.write_text(dump(corpus()))
