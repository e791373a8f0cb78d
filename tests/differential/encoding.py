"""What the model and the driver say bytes with: hashes, ABI words, packed payloads, record codes, CIDs.

Written from the interfaces' comments alone; nothing of the client is used, so that a slip there cannot hide here.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from eth_abi import encode
from eth_utils import keccak, to_checksum_address

ZERO = "0x" + "0" * 40
ZERO_WORD = bytes(32)
INIT_CODE = bytes.fromhex("3d3d3d3d335afa3d5f5f3e3d5ff3")
FORMATS = {1: "safetensors", 2: "gguf", 3: "mlx", 4: "tensorrt_llm"}


class Refused(Exception):  # noqa: N818 - it is not an error of ours, it is what the contract says
    """A contract refuses: the custom error's name and arguments."""

    def __init__(self, error: str, *arguments: object) -> None:
        super().__init__(error, *arguments)
        self.error = error
        self.arguments = arguments


def digest(*parts: object) -> bytes:
    """32 bytes that stand for some content."""
    return keccak("/".join(map(str, parts)).encode())


def model_id(publisher: str, name: str) -> bytes:
    return keccak(encode(["address", "string"], [publisher, name]))


def name_id(model: bytes, name: str) -> bytes:
    return keccak(encode(["bytes32", "string"], [model, name]))


def lora_id(creator: str, name: str, version: str) -> bytes:
    return keccak(encode(["string", "address", "string", "string"], ["LoRA", creator, name, version]))


def account(registry: str, salt: bytes) -> str:
    """Where a registry keeps the record of a salt (EIP-1014)."""
    return to_checksum_address(keccak(b"\xff" + address(registry) + salt + keccak(INIT_CODE))[12:])


def address(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def cid_text(codec: int, multihash: bytes) -> str:
    raw = bytes([1, codec, 0x12, 0x20]) + multihash
    return "b" + base64.b32encode(raw).decode().lower().rstrip("=")


@dataclass
class Fold:
    """A contract's logs, rolled up as IChangeLog says."""

    root: bytes = field(default=ZERO_WORD)

    def log(self, signature: str, indexed: list[bytes | str | int], types: list[str], values: list[object]) -> None:
        """One event; ``signature`` as the ABI writes it, addresses and numbers padded to words."""
        topics = [keccak(text=signature), *map(_topic, indexed)]
        self.root = keccak(self.root + b"".join(topics) + encode(types, values))


def _topic(value: bytes | str | int) -> bytes:
    if isinstance(value, bytes):
        return value
    return (address(value) if isinstance(value, str) else value.to_bytes(32, "big")).rjust(32, b"\0")


# ---- payloads


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return bytes([len(raw)]) + raw


@dataclass(frozen=True)
class Variant:
    """One variant as a payload has it."""

    format: int
    quantization: str
    target: str
    codec: int
    size_bytes: int
    cid: bytes
    sha256: bytes

    @property
    def key(self) -> bytes:
        lengths = len(self.quantization) << 4 | len(self.target)
        return bytes([self.format, lengths]) + (self.quantization + self.target).encode()

    def pack(self) -> bytes:
        return self.key + bytes([self.codec]) + self.size_bytes.to_bytes(6, "big") + self.cid + self.sha256

    def view(self) -> tuple[object, ...]:
        where = cid_text(self.codec, self.cid)
        return FORMATS[self.format], self.quantization, self.target, where, self.sha256, self.size_bytes


def pack_variants(variants: list[Variant]) -> bytes:
    return b"".join(v.pack() for v in sorted(variants, key=lambda v: v.key.ljust(32, b"\0")))


def pack_release(
    name: str, manifest: bytes, price: bytes, version: str, licence: str, variants: list[Variant]
) -> bytes:
    return text(name) + manifest + price + text(version) + text(licence) + pack_variants(variants)


def record_code(code: int, time: int, previous: str, link: str, rest: bytes) -> bytes:
    """The code of a record's account."""
    return bytes([0, code]) + time.to_bytes(5, "big") + address(previous) + address(link) + rest
