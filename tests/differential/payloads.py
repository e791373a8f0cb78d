"""What the contracts say of a packed payload: its content, or why it is refused.

The checks stand in the contracts' order, because the first one that fails names the error. Behind the end of a payload
there are zeros, as in the calldata of the calls that are compared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.differential.encoding import Refused, Variant

_NAME = re.compile(rb"[a-z0-9][a-z0-9._-]*")
_VERSION = re.compile(rb"[a-z0-9][a-z0-9._+-]*")
_LABEL = re.compile(rb"([A-Za-z0-9][A-Za-z0-9._+-]*)?")
_PRINTABLE = re.compile(rb"[\x20-\x7e]+")
_AFTER_KEY = 71
MODULES = [
    *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "embed_tokens", "lm_head"),
    *("qkv_proj", "gate_up_proj", "query", "key", "value", "dense", "fc1"),
]


@dataclass(frozen=True)
class Release:
    name: str
    manifest: bytes
    price: int
    version: str
    licence: str
    variants: tuple[Variant, ...]
    after_name: int


@dataclass(frozen=True)
class Addition:
    manifest: bytes
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class LoRA:
    base_digest: bytes
    base: bytes
    name: str
    version: str
    licence: str
    codec: int
    size_bytes: int
    cid: bytes
    sha256: bytes
    rank: int
    alpha: int
    modules: str
    steps: int
    dataset: bytes
    recipe: bytes
    proof_root: bytes
    run: int


class _Payload:
    """Bytes with zeros behind their end."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, at: int, count: int) -> bytes:
        return self.data[at : at + count].ljust(count, b"\0")

    def number(self, at: int, count: int) -> int:
        return int.from_bytes(self.take(at, count), "big")

    def text(self, at: int) -> tuple[bytes, int]:
        """The text, empty where it would not fit, and where the next field begins."""
        end = at + 1 + self.number(at, 1)
        return (b"" if end > len(self.data) else self.data[at + 1 : end]), end


def is_name(text: bytes, most: int, plus: bool = False) -> bool:
    return len(text) <= most and (_VERSION if plus else _NAME).fullmatch(text) is not None


def is_printable(text: bytes, most: int) -> bool:
    return len(text) <= most and _PRINTABLE.fullmatch(text) is not None


def parse_release(data: bytes) -> Release:
    payload = _Payload(data)
    name, at = payload.text(0)
    if not is_name(name, 64):
        raise Refused("InvalidText", 0)
    after_name = at
    manifest = _manifest(payload, at)
    price = payload.number(at + 32, 4)
    exponent = price & 0xFF
    if exponent > 60 or (price == exponent and price):
        raise Refused("InvalidPrice", price.to_bytes(4, "big"))
    version, licence, at = _version_and_licence(payload, at + 36)
    variants = _variants(payload, at)
    price_wei = (price >> 8) * 10**exponent
    return Release(name.decode(), manifest, price_wei, version, licence, variants, after_name)


def parse_addition(data: bytes) -> Addition:
    payload = _Payload(data)
    manifest = _manifest(payload, 0)
    return Addition(manifest, _variants(payload, min(32, len(data))))


def parse_lora(data: bytes) -> LoRA:
    payload = _Payload(data)
    name, at = payload.text(64)
    if not is_name(name, 64):
        raise Refused("InvalidText", 64)
    version, licence, at = _version_and_licence(payload, at)
    codec, size_bytes = payload.number(at, 1), payload.number(at + 1, 4)
    cid, sha256 = payload.take(at + 5, 32), payload.take(at + 37, 32)
    rank, alpha = payload.number(at + 69, 2), payload.number(at + 71, 4)
    if codec not in (0x55, 0x70):
        raise Refused("InvalidLoRA", at)
    if not 0 < size_bytes <= 500_000_000:
        raise Refused("InvalidSize", size_bytes)
    if not any(cid):
        raise Refused("InvalidLoRA", at + 5)
    if not any(sha256):
        raise Refused("InvalidLoRA", at + 37)
    if not 0 < rank <= 4096:
        raise Refused("InvalidRank", rank)
    if not alpha:
        raise Refused("InvalidLoRA", at + 71)
    modules, at = _modules(payload, at + 75)
    steps = payload.number(at, 4)
    training = _training(payload, at + 4)
    names = (name.decode(), version, licence)
    return LoRA(data[:32], data[32:64], *names, codec, size_bytes, cid, sha256, rank, alpha, modules, steps, *training)


def parse_parents(data: bytes) -> list[tuple[bytes, int]]:
    count = len(data) // 34
    if not 1 <= count <= 8 or len(data) != 34 * count:
        raise Refused("InvalidParents", len(data))
    parents = [(data[i : i + 32], int.from_bytes(data[i + 32 : i + 34], "big")) for i in range(0, len(data), 34)]
    previous = bytes(32)
    for lora, _ in parents:
        if lora <= previous:
            raise Refused("InvalidParentOrder", lora)
        previous = lora
    total = sum(weight for _, weight in parents)
    if total != 10_000 or not all(weight for _, weight in parents):
        raise Refused("InvalidWeights", total)
    return parents


def _manifest(payload: _Payload, at: int) -> bytes:
    manifest = payload.take(at, 32)
    if not any(manifest):
        raise Refused("InvalidManifest")
    return manifest


def _version_and_licence(payload: _Payload, at: int) -> tuple[str, str, int]:
    version, after = payload.text(at)
    if not is_name(version, 32, plus=True):
        raise Refused("InvalidText", at)
    if version == b"latest":
        raise Refused("ReservedName")
    licence, end = payload.text(after)
    if not is_printable(licence, 64):
        raise Refused("InvalidText", after)
    return version.decode(), licence.decode(), end


def _variants(payload: _Payload, at: int) -> tuple[Variant, ...]:
    variants: list[Variant] = []
    previous = bytes(32)
    while True:
        variant, end = _variant(payload, at)
        key = variant.key.ljust(32, b"\0")
        if key <= previous:
            raise Refused("InvalidOrder", at)
        variants.append(variant)
        previous, at = key, end
        if at >= len(payload.data):
            break
    if len(variants) > 64:
        raise Refused("TooManyVariants")
    return tuple(variants)


def _variant(payload: _Payload, at: int) -> tuple[Variant, int]:
    number, lengths = payload.number(at, 1), payload.number(at + 1, 1)
    first, second = lengths >> 4, lengths & 15
    content = at + 2 + first + second
    if content + _AFTER_KEY > len(payload.data):
        raise Refused("InvalidLength", at)
    codec, size_bytes = payload.number(content, 1), payload.number(content + 1, 6)
    cid, sha256 = payload.take(content + 7, 32), payload.take(content + 39, 32)
    if not 1 <= number <= 4 or codec not in (0x55, 0x70) or not size_bytes or not any(cid) or not any(sha256):
        raise Refused("InvalidVariant", at)
    quantization, target = payload.take(at + 2, first), payload.take(at + 2 + first, second)
    if not _LABEL.fullmatch(quantization) or not _LABEL.fullmatch(target):
        raise Refused("InvalidText", at)
    variant = Variant(number, quantization.decode(), target.decode(), codec, size_bytes, cid, sha256)
    return variant, content + _AFTER_KEY


def _modules(payload: _Payload, at: int) -> tuple[str, int]:
    bits = payload.number(at, 2)
    others, end = payload.text(at + 2)
    if end > len(payload.data):
        raise Refused("InvalidLoRA", at + 2)
    if others and (not is_printable(others, 255) or b"" in others.split(b",")):
        raise Refused("InvalidText", at + 2)
    if not others and not bits:
        raise Refused("InvalidLoRA", at)
    names = [name for i, name in enumerate(MODULES) if bits >> i & 1]
    return ",".join(names + ([others.decode()] if others else [])), end


def _training(payload: _Payload, at: int) -> tuple[bytes, bytes, bytes, int]:
    kind, end = payload.number(at, 1), at + 1
    dataset = recipe = proof_root = bytes(32)
    run = 0
    if kind == 1:
        end += 96
        dataset, recipe, proof_root = (payload.take(at + 1 + 32 * i, 32) for i in range(3))
        for i, told in enumerate((dataset, recipe)):
            if not any(told):
                raise Refused("InvalidLoRA", at + 1 + 32 * i)
    elif kind == 2:
        end += 8
        run = payload.number(at + 1, 8)
        if not run:
            raise Refused("InvalidLoRA", at + 1)
    elif kind:
        raise Refused("InvalidLoRA", at)
    if end != len(payload.data):
        raise Refused("InvalidLoRA", min(end, len(payload.data)))
    return dataset, recipe, proof_root, run
