"""What the records have in common that are no part of a manifest: comparisons, adapter suites, checks of suites.

Canonical JSON in one raw block: numbers are decimals, and whatever is spoken of is named by its hash. The signature
says who stands behind a record; it does not say that the record is true, which anybody with the bytes can find out.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from citrate.core import canonical, faults
from citrate.core.errors import FormatError, IntegrityError
from citrate.registry import signatures
from citrate.registry.cid import Cid
from citrate.registry.fetching import find_block
from citrate.registry.signatures import Domain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from citrate.facade import Registry
    from citrate.registry.signer import Signer

_DIGITS = 6
"""Significant digits of a decimal: more than two machines agree on."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
CidText = Annotated[str, StringConstraints(pattern=r"^b[a-z2-7]{58}$")]
Decimal = Annotated[str, StringConstraints(pattern=r"^(-?\d+(\.\d+)?(e[+-]\d{1,3})?|-?inf)$", max_length=32)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$")]
Count = Annotated[int, Field(ge=0, lt=1 << 48)]


class Document(BaseModel):
    """A part of a record."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Signature(Document):
    """The EIP-712 signature (type: the record's kind) over the record without this field."""

    signer: Address
    chain_id: Count
    registry: Address
    value: Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{130}$")]


class SignedRecord(Document):
    """A whole record."""

    KIND: ClassVar[str]
    """The type that is signed."""
    CALLED: ClassVar[str]
    """What messages call it: ``comparison``."""
    WHENCE: ClassVar[str]
    """The command that makes one."""
    MAX_BYTES: ClassVar[int] = 1 << 16

    signature: Signature | None

    def document(self) -> dict[str, object]:
        """As it is written."""
        found = self.model_dump(mode="json", by_alias=True)
        signature = found.pop("signature")
        return {**found, "signature": signature}  # at its end, where people look for it

    def encode(self) -> bytes:
        """The canonical bytes.

        Raises:
            FormatError: more than a record of this kind may have.
        """
        data = canonical.dumps(self.document())
        if len(data) > self.MAX_BYTES:
            raise FormatError(f"the {self.CALLED} has {len(data):,} bytes", hint=f"it has at most {self.MAX_BYTES:,}")
        return data

    def unsigned_sha256(self) -> str:
        """SHA-256 of the canonical form without a signature: what is signed."""
        return hashlib.sha256(canonical.dumps({**self.document(), "signature": None})).hexdigest()

    def signed(self, signer: Signer, registry_address: str) -> Self:
        """The same record, signed for the chain that the key was unlocked for."""
        value = signatures.sign_record(signer, self.KIND, self.unsigned_sha256(), registry_address)
        signature = Signature(signer=signer.address, chain_id=signer.chain_id, registry=registry_address, value=value)
        return self.model_copy(update={"signature": signature})

    def require_signature(self) -> str:
        """Who signed the record.

        Raises:
            IntegrityError: nobody did, or another than it says.
        """
        signature = self.signature
        if signature is None:
            raise IntegrityError(
                f"the {self.CALLED} is not signed", path="signature", expected="a signature", actual="none"
            )
        domain = Domain(signature.chain_id, signature.registry)
        digest = signatures.record_digest(domain, self.KIND, self.unsigned_sha256())
        found = signatures.recover(digest, bytes.fromhex(signature.value[2:]))
        if found.lower() != signature.signer.lower():
            raise IntegrityError(
                f"the {self.CALLED}'s signature is not that of {signature.signer}",
                path="signature",
                expected=signature.signer,
                actual=found or "no valid signature",
            )
        return found

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Decode a record; its bytes were held against its CID by whoever fetched them.

        Raises:
            FormatError: not a record that this release can read.
        """
        if len(data) > cls.MAX_BYTES:
            raise FormatError(
                f"a {cls.CALLED} of {len(data):,} bytes is none", hint=f"it has at most {cls.MAX_BYTES:,}"
            )
        canonical.loads(data)
        try:
            record = cls.model_validate_json(data)
        except ValidationError as error:
            hint = f"{cls.WHENCE} prints a record's CID"
            raise FormatError(f"no {cls.CALLED}: {faults.first(error, cls).message}", hint=hint) from error
        if record.encode() != data:
            raise FormatError(f"the {cls.CALLED} has fields that this release does not know")
        return record


def keep(registry: Registry, record: SignedRecord, reason: str) -> str:
    """Keep a record as a block that is pinned for ``reason``; returns its CID."""
    cid = registry.store.put_block(record.encode())
    registry.store.pin(cid, reason)
    return cid


def block(registry: Registry, cid: str, gateways: Iterable[str] = ()) -> bytes:
    """The bytes of a record by its CID, fetched where it is not here.

    Raises:
        FormatError: no CID.
        StoreError: no source has it.
    """
    return find_block(str(Cid.parse(cid)), registry.store, registry.sources(gateways))


def decimal(value: float) -> str:
    """A number as text, to six significant digits: ``0.00123``, ``-inf``."""
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return f"{value + 0.0:.{_DIGITS}g}"  # -0 becomes 0
