"""The record of how two models differ: who measured it, of which bytes, on which texts, and what came out.

Models, adapters, texts and scores are named by their hashes; what a signature says, `signed` tells.
"""

from __future__ import annotations

import hashlib
import json
from typing import ClassVar, Literal

from pydantic import Field

from citrate.core.errors import FormatError
from citrate.fine_tuning.signed import CidText, Count, Decimal, Document, Name, Sha256, SignedRecord, decimal
from citrate.formats.comparing import Difference
from citrate.training.scores import Scored, Thresholds, Verdict


class AdapterSide(Document):
    """An adapter that was on a model; its CID is that of its published form."""

    name: Name
    cid: CidText
    scale: Decimal


class Side(Document):
    """One of the two models. The name is what it was called there; the digest says what it was."""

    name: Name
    format: Name
    sha256: Sha256
    adapter: AdapterSide | None


class Texts(Document):
    """What was read: the SHA-256 of the file, how many texts, how many tokens."""

    sha256: Sha256
    texts: Count
    positions: Count


class Divergence(Document):
    """KL(a || b) in nats, and how often both find the same token likeliest."""

    mean: Decimal
    largest: Decimal
    first_token: Decimal
    agreement: Decimal
    first_token_agreement: Decimal


class Scores(Document):
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


class Comparison(SignedRecord):
    """The whole record."""

    KIND: ClassVar[str] = "Comparison"
    CALLED: ClassVar[str] = "comparison"
    WHENCE: ClassVar[str] = "citrate compare"

    schema_: Literal["citrate.comparison/1"] = Field(alias="schema")
    version: Name
    """Of citrate, which measured."""
    a: Side
    b: Side
    prompts: Texts
    divergence: Divergence
    scores: Scores | None


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
