"""CIDs: how content is named on IPFS (CIDv1, SHA-256, base32; the codecs raw and dag-pb, nothing else).

Source: https://github.com/multiformats/cid. A CID that citrate writes has exactly one spelling, and ``decode``
accepts only that one, so two texts that differ are two different contents.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from citrate.core.errors import FormatError
from citrate.core.sink import Buffer

RAW = 0x55
DAG_PB = 0x70

DIGEST_BYTES = 32
BINARY_BYTES = 36
"""Length of a binary CID: version, codec, hash function, hash length, digest."""

_SHA2_256 = b"\x12\x20"
_TEXT_CHARS = 59  # "b" and 36 bytes in base32 without padding


def to_bytes(codec: int, digest: bytes) -> bytes:
    """The binary CID of a block with this codec and SHA-256 digest (32 bytes)."""
    assert codec in (RAW, DAG_PB)
    assert len(digest) == DIGEST_BYTES
    return bytes((1, codec)) + _SHA2_256 + digest


def from_bytes(binary: bytes) -> tuple[int, bytes]:
    """Split a binary CID into codec and digest.

    Raises:
        FormatError: not CIDv1, not SHA-256, another codec than raw or dag-pb, or a wrong length.
    """
    if len(binary) != BINARY_BYTES or binary[0] != 1 or binary[1] not in (RAW, DAG_PB) or binary[2:4] != _SHA2_256:
        raise FormatError(f"unsupported CID {binary[:BINARY_BYTES].hex()}: need CIDv1, sha2-256, raw or dag-pb")
    return binary[1], binary[4:]


def encode(codec: int, digest: bytes) -> str:
    """The text of a CID, ``bafkrei...`` for raw, ``bafybei...`` for dag-pb."""
    return "b" + base64.b32encode(to_bytes(codec, digest)).decode().lower().rstrip("=")


def decode(text: str) -> tuple[int, bytes]:
    """Split the text of a CID into codec and digest.

    Raises:
        FormatError: not the base32 text of a CIDv1 with SHA-256 and the codec raw or dag-pb.
    """
    hint = "a CID here looks like bafybei... or bafkrei..."
    if len(text) != _TEXT_CHARS or text[0] != "b":
        raise FormatError(f"{text[:80]!r} is not a CIDv1 in base32", hint=hint)
    try:
        codec, digest = from_bytes(base64.b32decode(text[1:].upper() + "=" * 6))
    except (binascii.Error, ValueError) as error:
        raise FormatError(f"{text!r} is not a CIDv1 in base32", hint=hint) from error
    if encode(codec, digest) != text:  # upper case, or stray bits after the last byte
        raise FormatError(f"{text!r} is not a CID in canonical form", hint=hint)
    return codec, digest


def of(codec: int, block: Buffer) -> str:
    """The CID of ``block``."""
    return encode(codec, hashlib.sha256(block).digest())
