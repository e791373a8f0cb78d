"""The record of a comparison: the same bytes for the same findings, one signer, and every change is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from citrate.core import canonical
from citrate.core.errors import FormatError, IntegrityError
from citrate.fine_tuning.comparison import (
    AdapterSide,
    Comparison,
    Side,
    Texts,
    divergence_of,
    scores_of,
    texts_of,
)
from citrate.fine_tuning.signed import decimal
from citrate.formats.comparing import Difference
from citrate.registry import signatures
from citrate.registry.signer import Signer
from citrate.training.scores import Pair, Thresholds, judge

SIGNER = Signer(bytes([7]) * 32, 31337)
REGISTRY = "0x" + "ab" * 20


def record() -> Comparison:
    adapter = AdapterSide(name="me/polite", cid="b" + "a" * 58, scale="0.5")
    scored = judge([Pair(1, 0.0, 1.0), Pair(2, 0.0, 1.0)], Thresholds())
    return Comparison(
        schema="citrate.comparison/1",
        version="0.1.0",
        a=Side(name="me/tiny#safetensors", format="safetensors", sha256="1" * 64, adapter=None),
        b=Side(name="me/tiny#gguf:Q8_0", format="gguf", sha256="2" * 64, adapter=adapter),
        prompts=Texts(sha256="3" * 64, texts=2, positions=20),
        divergence=divergence_of(Difference(2, 20, 1.5e-7, 0.25, -0.0, 0.95, 1.0)),
        scores=scores_of(scored, Thresholds(), b"scores"),
        signature=None,
    )


def test_a_signed_record_comes_back_and_names_its_signer() -> None:
    signed = record().signed(SIGNER, REGISTRY)
    assert Comparison.parse(signed.encode()) == signed and signed.require_signature() == SIGNER.address
    assert signed.encode() == record().signed(SIGNER, REGISTRY).encode(), "the same bytes again"
    assert signed.unsigned_sha256() == record().unsigned_sha256()
    told = signed.divergence
    assert (told.mean, told.first_token, signed.scores and signed.scores.z) == ("1.5e-07", "0", "inf")


CHANGES: list[Callable[[dict[str, Any]], object]] = [
    lambda d: d["divergence"].update(mean="0"),
    lambda d: d["a"].update(sha256="4" * 64),
    lambda d: d["b"]["adapter"].update(scale="1"),
    lambda d: d["b"].update(adapter=None),
    lambda d: d["prompts"].update(sha256="5" * 64),
    lambda d: d["scores"].update(verdict="worse"),
    lambda d: d.update(scores=None),
    lambda d: d.update(a=d["b"], b=d["a"]),
    lambda d: d["signature"].update(chain_id=1),
    lambda d: d["signature"].update(registry="0x" + "cd" * 20),
    lambda d: d["signature"].update(signer="0x" + "cd" * 20),
    lambda d: d["signature"].update(value="0x" + "00" * 65),
    lambda d: d.update(signature=None),
]


@pytest.mark.parametrize("change", CHANGES, ids=range(len(CHANGES)))
def test_whatever_is_changed_is_not_what_was_signed(change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(record().signed(SIGNER, REGISTRY).encode())
    change(document)
    with pytest.raises(IntegrityError, match="sign"):
        Comparison.parse(canonical.dumps(document)).require_signature()


def test_a_manifests_signature_is_none_of_a_comparison() -> None:
    unsigned = record()
    signed = unsigned.signed(SIGNER, REGISTRY)
    assert signed.signature is not None
    other = signatures.sign(SIGNER, unsigned.unsigned_sha256(), REGISTRY)
    with pytest.raises(IntegrityError):
        signed.model_copy(
            update={"signature": signed.signature.model_copy(update={"value": other})}
        ).require_signature()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(more=1), "more"),
        (lambda d: d.update(schema="citrate.manifest/1"), "schema"),
        (lambda d: d["divergence"].update(mean="nan"), "divergence.mean"),
        (lambda d: d["divergence"].update(mean="0x1"), "divergence.mean"),
        (lambda d: d["a"].update(sha256="1"), "a.sha256"),
        (lambda d: d.update(version="v" * 70_000), "70,"),
    ],
)
def test_what_is_no_record_is_refused(change: Callable[[dict[str, Any]], object], message: str) -> None:
    document = json.loads(record().encode())
    change(document)
    with pytest.raises(FormatError, match=message):
        Comparison.parse(canonical.dumps(document))
    with pytest.raises(FormatError):
        Comparison.parse(record().encode() + b"\n")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.0, "0"), (1.0, "1"), (0.123456789, "0.123457"), (1e-9, "1e-09"), (1e20, "1e+20"), (-2.5, "-2.5")],
)
def test_decimals_are_short_and_have_one_form(value: float, text: str) -> None:
    assert decimal(value) == text


def test_texts_are_lines_or_fields_of_json_lines() -> None:
    assert texts_of(b"One.\n\n  Two.\r\n", json_lines=False) == ("One.", "  Two.")
    assert texts_of(b'{"text": "One."}\n{"prompt": "Two.", "id": 3}\n', json_lines=True) == ("One.", "Two.")


@pytest.mark.parametrize(
    ("data", "json_lines", "message"),
    [
        (b"\xff", False, "not UTF-8"),
        (b"\n \n", False, "no prompts"),
        (b'{"text": "a"}\nb', True, "line 2 is no JSON"),
        (b'{"text": 1}', True, "line 1 has no text"),
        (b'["a"]', True, "line 1 has no text"),
        (b'{"text": " "}', True, "line 1 has no text"),
    ],
)
def test_prompts_that_are_none_are_told_by_their_line(data: bytes, json_lines: bool, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        texts_of(data, json_lines)
