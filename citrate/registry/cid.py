"""CIDs: how content is named on IPFS.

Source: https://github.com/multiformats/cid. What citrate itself writes and what stands on chain is CIDv1 with SHA-256,
base32 and the codecs raw and dag-pb, in exactly one spelling: ``encode`` and ``decode`` know nothing else, so two texts
that differ are two different contents. ``Cid`` is any CID that a foreign DAG may hold.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from citrate.core.errors import FormatError
from citrate.core.sink import Buffer
from citrate.registry import multibase
from citrate.registry.varint import read_varint, varint

RAW = 0x55
DAG_PB = 0x70
DAG_CBOR = 0x71
DAG_JSON = 0x0129
CBOR = 0x51
JSON = 0x0200

CODECS = {RAW: "raw", DAG_PB: "dag-pb", DAG_CBOR: "dag-cbor", DAG_JSON: "dag-json", CBOR: "cbor", JSON: "json"}
"""The codecs whose links are known, by their names."""

IDENTITY = 0x00
SHA2_256 = 0x12

DIGEST_BYTES = 32
BINARY_BYTES = 36
"""Length of a binary CID of ours: version, codec, hash function, hash length, digest."""

IDENTITY_MAX_BYTES = 128
DIGEST_MIN_BYTES = 20
"""Shorter digests can be forged; Kubo draws the same line."""

_SHA2_256 = b"\x12\x20"
_TEXT = re.compile("b[a-z2-7]{57}[aeimquy4]")  # 36 bytes in base32 without padding: 58 letters, 2 bits too many
_SPARE_BITS = 2
_DIGITS = str.maketrans("abcdefghijklmnopqrstuvwxyz234567", "0123456789abcdefghijklmnopqrstuv")
_V0_CHARS = 46
_HINT = "a CID looks like bafybei..., bafkrei... or Qm..."


def _double_sha256(block: Buffer) -> bytes:
    return hashlib.sha256(hashlib.sha256(block).digest()).digest()


_HASHES: dict[int, Callable[[Buffer], bytes]] = {
    0x11: lambda block: hashlib.sha1(block, usedforsecurity=False).digest(),  # how git names what it holds
    SHA2_256: lambda block: hashlib.sha256(block).digest(),
    0x13: lambda block: hashlib.sha512(block).digest(),
    0x14: lambda block: hashlib.sha3_512(block).digest(),
    0x15: lambda block: hashlib.sha3_384(block).digest(),
    0x16: lambda block: hashlib.sha3_256(block).digest(),
    0x17: lambda block: hashlib.sha3_224(block).digest(),
    0x56: _double_sha256,
}
_BLAKE2B = range(0xB201 - 1, 0xB240 + 1)  # the code says the digest's length in bytes
_BLAKE2S = range(0xB241 - 1, 0xB260 + 1)


@dataclass(frozen=True, slots=True)
class Cid:
    """Any CID. ``str`` of it is its usual text: ``Qm...`` for version 0, else base32."""

    version: int
    codec: int
    hash_code: int
    digest: bytes

    @classmethod
    def of(cls, codec: int, block: Buffer, *, version: int = 1) -> Cid:
        """The CID of ``block`` with SHA-256."""
        return cls(version, codec, SHA2_256, hashlib.sha256(block).digest())

    @classmethod
    def parse(cls, text: str) -> Cid:
        """Read the text of a CID of either version, in any usual alphabet.

        Raises:
            FormatError: no CID, or a hash that nobody should rely on.
        """
        try:
            if len(text) == _V0_CHARS and text.startswith("Qm"):
                return cls.decode(multibase.base58_decode(text))
            found = cls.decode(multibase.decode(text))
        except (FormatError, ValueError) as error:
            raise FormatError(f"{text[:80]!r} is not a CID: {error}", hint=_HINT) from error
        if found.version == 0:
            raise FormatError(f"{text[:80]!r} is not a CID: version 0 has no alphabet in front", hint=_HINT)
        return found

    @classmethod
    def decode(cls, binary: bytes) -> Cid:
        """Read a binary CID.

        Raises:
            FormatError: malformed, or bytes after it.
        """
        found, end = cls.read(binary, 0)
        if end != len(binary):
            raise FormatError("bytes after a CID")
        return found

    @classmethod
    def read(cls, data: bytes, at: int) -> tuple[Cid, int]:
        """Read the binary CID at ``at``; returns it and the position after it.

        Raises:
            FormatError: malformed, of an unknown version, or with a digest too short or too long.
        """
        if data[at : at + 2] == _SHA2_256:
            digest = data[at + 2 : at + 2 + DIGEST_BYTES]
            if len(digest) != DIGEST_BYTES:
                raise FormatError("truncated CID")
            return cls(0, DAG_PB, SHA2_256, digest), at + 2 + DIGEST_BYTES
        version, at = read_varint(data, at)
        if version != 1:
            raise FormatError(f"CID of unknown version {version}")
        codec, at = read_varint(data, at)
        hash_code, at = read_varint(data, at)
        length, at = read_varint(data, at)
        digest = data[at : at + length]
        low, high = (0, IDENTITY_MAX_BYTES) if hash_code == IDENTITY else (DIGEST_MIN_BYTES, 64)
        if not low <= length <= high or len(digest) != length:
            raise FormatError(f"CID with a digest of {length} bytes")
        return cls(1, codec, hash_code, bytes(digest)), at + length

    @property
    def multihash(self) -> bytes:
        """Hash function, length and digest: what a block is found by, whatever its codec."""
        return varint(self.hash_code) + varint(len(self.digest)) + self.digest

    @property
    def binary(self) -> bytes:
        """The CID in binary."""
        return self.multihash if self.version == 0 else b"\x01" + varint(self.codec) + self.multihash

    @property
    def is_identity(self) -> bool:
        """Whether the digest is the block itself."""
        return self.hash_code == IDENTITY

    def matches(self, block: Buffer) -> bool:
        """Whether ``block`` has this hash.

        Raises:
            FormatError: a hash function that is not known here.
        """
        return self.hash(block)[: len(self.digest)] == self.digest and (
            not self.is_identity or len(self.digest) == len(block)
        )

    def hash(self, block: Buffer) -> bytes:
        """``block`` hashed with this CID's function, not cut to its length.

        Raises:
            FormatError: a hash function that is not known here.
        """
        if self.is_identity:
            return bytes(block)
        if self.hash_code in _HASHES:
            return _HASHES[self.hash_code](block)
        for codes, function in ((_BLAKE2B, hashlib.blake2b), (_BLAKE2S, hashlib.blake2s)):
            if self.hash_code in codes[1:]:
                return function(block, digest_size=self.hash_code - codes.start).digest()
        raise FormatError(f"hash function 0x{self.hash_code:x} of {self} is not known here")

    def __str__(self) -> str:
        return multibase.base58_encode(self.multihash) if self.version == 0 else multibase.base32_encode(self.binary)


def to_bytes(codec: int, digest: bytes) -> bytes:
    """The binary CID of a block of ours with this codec and SHA-256 digest (32 bytes)."""
    assert codec in (RAW, DAG_PB)
    assert len(digest) == DIGEST_BYTES
    return bytes((1, codec)) + _SHA2_256 + digest


def from_bytes(binary: bytes) -> tuple[int, bytes]:
    """Split a binary CID of ours into codec and digest.

    Raises:
        FormatError: not CIDv1, not SHA-256, another codec than raw or dag-pb, or a wrong length.
    """
    if len(binary) != BINARY_BYTES or binary[0] != 1 or binary[1] not in (RAW, DAG_PB) or binary[2:4] != _SHA2_256:
        raise FormatError(f"unsupported CID {binary[:BINARY_BYTES].hex()}: need CIDv1, sha2-256, raw or dag-pb")
    return binary[1], binary[4:]


def encode(codec: int, digest: bytes) -> str:
    """The text of a CID of ours, ``bafkrei...`` for raw, ``bafybei...`` for dag-pb."""
    return multibase.base32_encode(to_bytes(codec, digest))


def decode(text: str) -> tuple[int, bytes]:
    """Split the text of a CID of ours into codec and digest.

    Raises:
        FormatError: not the base32 text of a CIDv1 with SHA-256 and the codec raw or dag-pb.
    """
    hint = "a CID here looks like bafybei... or bafkrei..."
    if not _TEXT.fullmatch(text):  # so it is canonical: lower case, and no stray bits after the last byte
        raise FormatError(f"{text[:80]!r} is not a CIDv1 in base32", hint=hint)
    number = int(text[1:].translate(_DIGITS), 32) >> _SPARE_BITS
    codec, digest = from_bytes(number.to_bytes(BINARY_BYTES, "big"))
    return codec, digest


def of(codec: int, block: Buffer) -> str:
    """The CID of ``block``."""
    return encode(codec, hashlib.sha256(block).digest())
