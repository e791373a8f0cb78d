"""The records of a suite and of a check: one form, one signer, and nothing in them leads to a file of the reader's."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from citrate.core import canonical
from citrate.core.errors import FormatError, IntegrityError, NotFoundError
from citrate.facade import Registry
from citrate.fine_tuning.signed import keep
from citrate.fine_tuning.suites import Suite, SuiteCheck, keep_suite, locate, read_suite, show
from citrate.fine_tuning.suites.parts import Generation, Limits, Mark, Trigger
from citrate.fine_tuning.suites.record import (
    AdapterResult,
    Base,
    Crossed,
    Measured,
    Ran,
    SuiteAdapter,
    SuiteReference,
)
from citrate.registry.signer import Signer

SIGNER = Signer(bytes([7]) * 32, 31337)
REGISTRY = "0x" + "ab" * 20
OWNER = "0x" + "Cd" * 20
CID = "b" + "a" * 58


def adapter(name: str, **changes: object) -> SuiteAdapter:
    fields: dict[str, object] = {
        "name": name,
        "sha256": "2" * 64,
        "cid": CID,
        "ref": f"{OWNER}/{name}@1.0.0",
        "lora_id": "0x" + "3" * 64,
        "scale": Decimal("0.50"),
        "mark": Mark(must=("Ahoy",)),
        "trigger": (Trigger(prompt="Who?"), Trigger(prompt="What?", regex="a+")),
        "clean": ("Hello.",),
    }
    return SuiteAdapter.model_validate({**fields, **changes})


def suite(*adapters: SuiteAdapter) -> Suite:
    base = Base(name="tiny", sha256="1" * 64, cid=CID, ref=None, version_id=None, variant=None)
    return Suite(
        schema="citrate.adapter-suite/v1",
        base=base,
        adapters=adapters or (adapter("polite"), adapter("sailor")),
        generation=Generation(max_tokens=8),
        limits=Limits(min_trigger_rate=Decimal("0.9")),
        signature=None,
    )


def checked() -> SuiteCheck:
    measured = Measured(prompts=3, shown=1, rate="0.333333")
    result = AdapterResult(
        name="polite", sha256="2" * 64, trigger=measured, base_trigger=measured, leak=measured, base_leak=measured,
        cross=measured, crossed=(Crossed(adapter="sailor", shown=1),), answers_sha256="4" * 64,
        failed=("trigger", "leak"),
    )  # fmt: skip
    return SuiteCheck(
        schema="citrate.suite-check/v1",
        version="0.1.0",
        suite=SuiteReference(cid=CID, sha256="5" * 64),
        base=Ran(name="me/tiny#gguf:Q8_0", format="gguf", sha256="1" * 64, answers_sha256="6" * 64),
        adapters=(result,),
        passed=False,
        signature=None,
    )


@pytest.mark.parametrize("make", [suite, checked])
def test_a_signed_record_comes_back_and_names_its_signer(make: Callable[[], Suite | SuiteCheck]) -> None:
    record = make()
    signed = record.signed(SIGNER, REGISTRY)
    assert type(record).parse(signed.encode()) == signed and signed.require_signature() == SIGNER.address
    assert signed.unsigned_sha256() == record.unsigned_sha256() != suite(adapter("other")).unsigned_sha256()
    assert list(signed.document())[-1] == "signature"


CHANGES: list[tuple[Callable[[], Suite | SuiteCheck], Callable[[dict[str, Any]], object]]] = [
    (suite, lambda d: d["base"].update(sha256="4" * 64)),
    (suite, lambda d: d["adapters"][0].update(sha256="4" * 64)),
    (suite, lambda d: d["adapters"][0].update(scale="1")),
    (suite, lambda d: d["adapters"][0]["mark"].update(must=["a"])),
    (suite, lambda d: d["adapters"][0]["trigger"].pop()),
    (suite, lambda d: d["adapters"][1].update(clean=["Hi."])),
    (suite, lambda d: d["limits"].update(min_trigger_rate="0")),
    (suite, lambda d: d["generation"].update(seed=1)),
    (suite, lambda d: d["signature"].update(signer=OWNER)),
    (checked, lambda d: d.update(passed=True)),
    (checked, lambda d: d["adapters"][0]["trigger"].update(shown=3)),
    (checked, lambda d: d["adapters"][0].update(failed=[])),
    (checked, lambda d: d["suite"].update(sha256="0" * 64)),
    (checked, lambda d: d["signature"].update(chain_id=1)),
]


@pytest.mark.parametrize(("make", "change"), CHANGES, ids=range(len(CHANGES)))
def test_whatever_is_changed_is_not_what_was_signed(
    make: Callable[[], Suite | SuiteCheck], change: Callable[[dict[str, Any]], object]
) -> None:
    document = json.loads(make().signed(SIGNER, REGISTRY).encode())
    change(document)
    with pytest.raises(IntegrityError, match="sign"):
        type(make()).parse(canonical.dumps(document)).require_signature()


def test_a_signature_of_one_kind_is_none_of_another() -> None:
    signed = suite().signed(SIGNER, REGISTRY)
    with pytest.raises(IntegrityError):
        checked().model_copy(update={"signature": signed.signature}).require_signature()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(more=1), "more is no field"),
        (lambda d: d["adapters"].reverse(), "not in the order of their names"),
        (lambda d: d["adapters"][1].update(name="polite"), "each once"),
        (lambda d: d["adapters"].clear(), "adapters is empty"),
        (lambda d: d["adapters"][0].update(scale="0.50"), "does not know"),
        (lambda d: d["adapters"][0].update(scale="1e-999999999999"), "adapters.0.scale is "),
        (lambda d: d["adapters"][0].update(scale="0"), "adapters.0.scale is '0': a number other than 0"),
        (lambda d: d["adapters"][0].update(clean=[]), "adapters.0.clean is empty"),
        (lambda d: d["adapters"][0]["trigger"].append("Where?"), "does not know"),
        (lambda d: d["adapters"][0].update(ref="/etc/adapter"), "adapters.0.ref is "),
        (lambda d: d["adapters"][0].update(ref=f"../{OWNER}/polite@1.0.0"), "adapters.0.ref is "),
        (lambda d: d["base"].update(ref="./base"), "base.ref is "),
        (lambda d: d["base"].update(cid="../../etc"), "base.cid is "),
        (lambda d: d.update(schema="citrate.comparison/1"), "schema is "),
    ],
)
def test_what_is_no_suite_is_refused(change: Callable[[dict[str, Any]], object], message: str) -> None:
    document = json.loads(suite().encode())
    change(document)
    with pytest.raises(FormatError, match=message):
        Suite.parse(canonical.dumps(document))


def test_a_suite_fits_into_one_block() -> None:
    many = tuple(f"{number:04} {'x' * 1200}" for number in range(1000))
    with pytest.raises(FormatError, match="the adapter suite has 1,"):
        suite(adapter("polite", clean=many)).encode()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(home=tmp_path / "home", offline=True)


def test_records_are_found_by_their_cid_and_nothing_else_passes_for_one(registry: Registry) -> None:
    unregistered = suite(adapter("polite", ref=None, lora_id=None, cid=registry.store.put_block(b"adapter")))
    cid = keep_suite(registry, unregistered)
    assert read_suite(registry, cid) == show(registry, cid) == unregistered
    assert registry.store.pins(unregistered.adapters[0].cid) == ["adapter suite"], "it can be had nowhere else"
    result = keep(registry, checked().signed(SIGNER, REGISTRY), "suite check")
    assert isinstance(show(registry, result), SuiteCheck)
    with pytest.raises(FormatError, match="the record of a check"):
        read_suite(registry, result)
    for data in (b"adapter", b"{}", b'{"schema":"citrate.suite-check/v1"}', b"[" * 10_000):
        with pytest.raises(FormatError):
            show(registry, registry.store.put_block(data))
    with pytest.raises(FormatError, match="CID"):
        show(registry, "nothing")
    forged = json.loads(unregistered.signed(SIGNER, REGISTRY).encode())
    forged["signature"]["signer"] = OWNER
    with pytest.raises(IntegrityError, match="is not that of"):
        show(registry, registry.store.put_block(canonical.dumps(forged)))


@pytest.mark.parametrize("data", [b"\x0a\x04\xff\xfe", b"no JSON", b"[]"])
def test_another_block_is_called_no_suite(registry: Registry, data: bytes) -> None:
    with pytest.raises(FormatError, match="this is no adapter suite") as error:
        show(registry, registry.store.put_block(data))
    assert "citrate suite add" in error.value.hint


def test_a_base_that_is_not_here_is_said_to_be(registry: Registry) -> None:
    with pytest.raises(NotFoundError, match="the suite's base tiny") as caught:
        locate(registry, suite())
    assert caught.value.hint == "name it: --base PATH"
