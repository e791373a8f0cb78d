"""The record of how two models differ: who measured it, of which bytes, on which texts, and what came out.

Canonical JSON in one raw block: numbers are decimals, models, adapters, texts and scores are named by their hashes. The
signature says who stands behind it; it does not say that it is true, which anybody with the bytes can find out again.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from citrate.core import canonical
from citrate.core.errors import FormatError, IntegrityError
from citrate.formats.comparing import Difference
from citrate.registry import signatures
from citrate.registry.signatures import Domain
from citrate.registry.signer import Signer
from citrate.training.scores import Scored, Thresholds, Verdict

RECORD_MAX_BYTES = 1 << 16
_DIGITS = 6
"""Significant digits of a decimal: more than two machines agree on."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Decimal = Annotated[str, StringConstraints(pattern=r"^(-?\d+(\.\d+)?(e[+-]\d{1,3})?|-?inf)$", max_length=32)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$")]
Count = Annotated[int, Field(ge=0, lt=1 << 48)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class AdapterSide(_Document):
    """An adapter that was on a model; its CID is that of its published form."""

    name: Name
    cid: Annotated[str, StringConstraints(pattern=r"^b[a-z2-7]{58}$")]
    scale: Decimal


class Side(_Document):
    """One of the two models. The name is what it was called there; the digest says what it was."""

    name: Name
    format: Name
    sha256: Sha256
    adapter: AdapterSide | None


class Texts(_Document):
    """What was read: the SHA-256 of the file, how many texts, how many tokens."""

    sha256: Sha256
    texts: Count
    positions: Count


class Divergence(_Document):
    """KL(a || b) in nats, and how often both find the same token likeliest."""

    mean: Decimal
    largest: Decimal
    first_token: Decimal
    agreement: Decimal
    first_token_agreement: Decimal


class Scores(_Document):
    """Who wins over seeds, and what had to be reached for a verdict."""

    sha256: Sha256
    seeds: Count
    wins: Count
    ties: Count
    mean_a: Decimal
    mean_b: Decimal
    difference: Decimal
    relative: Decimal | None
    z: Decimal
    min_abs: Decimal
    min_rel: Decimal
    min_z: Decimal
    verdict: Literal["improves", "no difference", "worse"]


class Signature(_Document):
    """The EIP-712 signature (type ``Comparison``) over the record without this field."""

    signer: Address
    chain_id: Count
    registry: Address
    value: Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{130}$")]


class Comparison(_Document):
    """The whole record."""

    schema_: Literal["citrate.comparison/1"] = Field(alias="schema")
    version: Name
    """Of citrate, which measured."""
    a: Side
    b: Side
    prompts: Texts
    divergence: Divergence
    scores: Scores | None
    signature: Signature | None

    def document(self) -> dict[str, object]:
        """As it is written."""
        return self.model_dump(mode="json", by_alias=True)

    def encode(self) -> bytes:
        """The canonical bytes."""
        return canonical.dumps(self.document())

    def unsigned_sha256(self) -> str:
        """SHA-256 of the canonical form without a signature: what is signed."""
        return hashlib.sha256(canonical.dumps({**self.document(), "signature": None})).hexdigest()

    def signed(self, signer: Signer, registry_address: str) -> Comparison:
        """The same record, signed for the chain that the key was unlocked for."""
        value = signatures.sign_comparison(signer, self.unsigned_sha256(), registry_address)
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
                "the comparison is not signed", path="signature", expected="a signature", actual="none"
            )
        domain = Domain(signature.chain_id, signature.registry)
        digest = signatures.comparison_digest(domain, self.unsigned_sha256())
        found = signatures.recover(digest, bytes.fromhex(signature.value[2:]))
        if found.lower() != signature.signer.lower():
            raise IntegrityError(
                f"the comparison's signature is not that of {signature.signer}",
                path="signature",
                expected=signature.signer,
                actual=found or "no valid signature",
            )
        return found


def parse(data: bytes) -> Comparison:
    """Decode a record; its bytes were held against its CID by whoever fetched them.

    Raises:
        FormatError: not a record that this release can read.
    """
    if len(data) > RECORD_MAX_BYTES:
        raise FormatError(f"a comparison of {len(data):,} bytes is none", hint=f"it has at most {RECORD_MAX_BYTES:,}")
    canonical.loads(data)
    try:
        record = Comparison.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise FormatError(
            f"no comparison: {where}: {first['msg']}", hint="citrate compare prints a record's CID"
        ) from error
    if record.encode() != data:
        raise FormatError("the comparison has fields that this release does not know")
    return record


def divergence_of(found: Difference) -> Divergence:
    """What was measured, as it is written."""
    return Divergence(
        mean=decimal(found.mean),
        largest=decimal(found.largest),
        first_token=decimal(found.first_token),
        agreement=decimal(found.agreement),
        first_token_agreement=decimal(found.first_token_agreement),
    )


def scores_of(found: Scored, least: Thresholds, data: bytes) -> Scores:
    """What the scores came to, as it is written; ``data`` is their file."""
    return Scores(
        sha256=hashlib.sha256(data).hexdigest(),
        seeds=found.seeds,
        wins=found.wins,
        ties=found.ties,
        mean_a=decimal(found.mean_a),
        mean_b=decimal(found.mean_b),
        difference=decimal(found.difference),
        relative=None if found.relative is None else decimal(found.relative),
        z=decimal(found.z),
        min_abs=decimal(least.absolute),
        min_rel=decimal(least.relative),
        min_z=decimal(least.z),
        verdict=Verdict(found.verdict).value,
    )


def decimal(value: float) -> str:
    """A number as text, to six significant digits: ``0.00123``, ``-inf``."""
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return f"{value + 0.0:.{_DIGITS}g}"  # -0 becomes 0


def texts_of(data: bytes, json_lines: bool) -> tuple[str, ...]:
    """The texts of a file: a line each or, in JSON Lines, ``text`` or ``prompt`` of each line.

    Raises:
        FormatError: not UTF-8, a line that is no such object, or no text at all; the message tells the line.
    """
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError as error:
        raise FormatError(f"the prompts are not UTF-8 (byte {error.start})", hint="convert them, with iconv") from None
    texts = [_text(line, number) if json_lines else line for number, line in enumerate(lines, 1) if line.strip()]
    if not texts:
        raise FormatError("there are no prompts", hint='a text a line, or JSON Lines with "text"')
    return tuple(texts)


def _text(line: str, number: int) -> str:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        raise FormatError(f"line {number} is no JSON", hint='a line is {"text": "..."}') from None
    text = document.get("text", document.get("prompt")) if isinstance(document, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise FormatError(f"line {number} has no text", hint='a line is {"text": "..."} or {"prompt": "..."}')
    return text
