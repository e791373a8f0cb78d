"""The packed bytes that `publish` and `addVariants` take, and the records the registry keeps of them.

The layouts are stated in ``contracts/interfaces/IModelRegistry.sol``. Every limit of the contract is checked here
first, so that a publisher learns of it before a transaction costs anything.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from citrate.core.errors import ConfigError, FormatError
from citrate.core.records import (
    LATEST,
    NAME_PATTERN,
    VERSION_PATTERN,
    Format,
    Variant,
    VariantRecord,
)
from citrate.registry import cid
from citrate.registry.packing import Reader, digest, require, require_licence, split_cid, text

MAX_VARIANTS = 64
MAX_MANTISSA = (1 << 24) - 1
MAX_EXPONENT = 60
MAX_SIZE_BYTES = (1 << 48) - 1

_LABEL = re.compile(r"([A-Za-z0-9][A-Za-z0-9._+-]{0,14})?")
_FIRST_RELEASE, _RELEASE, _ADDITION = 1, 2, 3
_BY_OTHER = 0x80


@dataclass(frozen=True)
class ReleasePayload:
    """A version to be published under ``publisher``'s name."""

    publisher: str
    name: str
    version: str
    licence: str
    manifest_sha256: str
    variants: tuple[VariantRecord, ...]
    price_wei: int = 0

    def encode(self) -> bytes:
        """The packed release.

        Raises:
            ConfigError: something that the contract would refuse.
        """
        require(NAME_PATTERN, self.name, "name")
        require(VERSION_PATTERN, self.version, "version")
        if self.version == LATEST:
            raise ConfigError(f"{LATEST!r} cannot name a version", hint="it always names the newest release")
        require_licence(self.licence)
        return (
            text(self.name)
            + digest(self.manifest_sha256, "manifest")
            + encode_price(self.price_wei)
            + text(self.version)
            + text(self.licence)
            + _encode_variants(self.variants)
        )


@dataclass(frozen=True)
class AdditionPayload:
    """Variants to be added to a version, and the manifest that lists the old and the new ones."""

    manifest_sha256: str
    variants: tuple[VariantRecord, ...]

    def encode(self) -> bytes:
        """The packed addition.

        Raises:
            ConfigError: something that the contract would refuse.
        """
        return digest(self.manifest_sha256, "manifest") + _encode_variants(self.variants)


@dataclass(frozen=True)
class Record:
    """A record as it stands in the code of its account. Texts that stand in another record are empty."""

    kind: int
    """1 first release of a model, 2 later release, 3 added variants."""
    created_at: int
    previous: str
    """The registry's record before this one; the zero address in the first."""
    link: str
    """The publisher, the model's first release, or the release that the variants were added to."""
    sender: str
    """Who owned the model, where that was not the publisher; else empty."""
    version_before: str
    """The version that the model released before, in a later release."""
    name: str
    version: str
    licence: str
    price_wei: int
    manifest_sha256: str
    variants: tuple[VariantRecord, ...]


def sort_key(variant: Variant) -> bytes:
    """What variants are ordered and told apart by: all of a variant's encoding that comes before the codec."""
    lengths = len(variant.quantization) << 4 | len(variant.target)
    return bytes([variant.format.number, lengths]) + (variant.quantization + variant.target).encode()


def encode_price(price_wei: int) -> bytes:
    """The four bytes of a price: a 24-bit mantissa times a power of ten, in wei; free is four zeros.

    Raises:
        ConfigError: more than seven significant digits, negative, or too large.
    """
    if price_wei < 0:
        raise ConfigError("a price cannot be negative", hint="--price 0 is free")
    mantissa, exponent = price_wei, 0
    while mantissa and mantissa % 10 == 0 and exponent < MAX_EXPONENT:
        mantissa, exponent = mantissa // 10, exponent + 1
    if mantissa > MAX_MANTISSA:
        near = " or ".join(f"{price}" for price in _nearest_prices(price_wei))
        raise ConfigError(
            f"a price of {price_wei} wei has too many digits to stand on chain", hint=f"near it: {near} wei"
        )
    return mantissa.to_bytes(3, "big") + bytes([exponent if mantissa else 0])


def decode_price(code: bytes) -> int:
    """The price in wei."""
    return int.from_bytes(code[:3], "big") * int(10 ** code[3])


def decode_record(code: bytes) -> Record:
    """Read a record from its account's code, which may be hostile.

    Raises:
        FormatError: it is no record of this layout.
    """
    read = Reader(code)
    if read.take(1) != b"\0":
        raise FormatError("not a record: it does not begin with STOP")
    kind_byte = read.number(1)
    kind = kind_byte & ~_BY_OTHER
    if kind not in (_FIRST_RELEASE, _RELEASE, _ADDITION):
        raise FormatError(f"not a record: unknown kind {kind_byte}")
    created_at, previous, link = read.number(5), read.address(), read.address()
    sender = read.address() if kind_byte & _BY_OTHER else ""
    version_before = read.text() if kind == _RELEASE else ""
    name = read.text() if kind == _FIRST_RELEASE else ""
    manifest = read.take(32).hex()
    price_wei, version, licence = 0, "", ""
    if kind != _ADDITION:
        price_wei, version, licence = decode_price(read.take(4)), read.text(), read.text()
    variants = []
    while not read.done:
        variants.append(_read_variant(read))
    texts = (sender, version_before, name, version, licence)
    return Record(kind, created_at, previous, link, *texts, price_wei, manifest, tuple(variants))


def _read_variant(read: Reader) -> VariantRecord:
    number, lengths = read.number(1), read.number(1)
    if not 1 <= number <= len(Format):
        raise FormatError(f"not a record: unknown format {number}")
    variant = Variant(list(Format)[number - 1], read.text(lengths >> 4), read.text(lengths & 15))
    codec, size_bytes = read.number(1), read.number(6)
    return VariantRecord(variant, read.cid(codec, read.take(32)), read.take(32).hex(), size_bytes)


def _encode_variants(variants: Iterable[VariantRecord]) -> bytes:
    entries = sorted(map(_checked, variants), key=lambda entry: sort_key(entry.variant).ljust(32, b"\0"))
    if not 1 <= len(entries) <= MAX_VARIANTS:
        raise ConfigError(f"{len(entries)} variants in one record", hint=f"a record holds 1 to {MAX_VARIANTS}")
    for one, other in itertools.pairwise(entries):
        if one.variant == other.variant:
            raise ConfigError(f"the variant {one.variant} is there twice", hint="name each variant once")
    return b"".join(map(_encode_variant, entries))


def _encode_variant(entry: VariantRecord) -> bytes:
    codec, found = cid.decode(entry.cid)
    size = entry.size_bytes.to_bytes(6, "big")
    return sort_key(entry.variant) + bytes([codec]) + size + found + bytes.fromhex(entry.sha256)


def _checked(entry: VariantRecord) -> VariantRecord:
    variant = entry.variant
    for part in (variant.quantization, variant.target):
        if not _LABEL.fullmatch(part):
            raise ConfigError(f"the variant {variant} cannot stand on chain", hint="at most 15 of A-Z a-z 0-9 . _ + -")
    if not 0 < entry.size_bytes <= MAX_SIZE_BYTES:
        raise ConfigError(f"the variant {variant} has {entry.size_bytes} bytes", hint="it must have 1 to 2^48 - 1")
    digest(entry.sha256, str(variant))
    split_cid(entry.cid, f"the variant {variant}")
    return entry


def _nearest_prices(price_wei: int) -> tuple[int, int]:
    """The next representable prices below and above."""
    unit = 1
    while price_wei // unit > MAX_MANTISSA:
        unit *= 10
    below = price_wei // unit
    above = below + 1
    return below * unit, above * unit if above <= MAX_MANTISSA else -(-above // 10) * 10 * unit
