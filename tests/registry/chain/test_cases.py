"""What a node answers about cases is read exactly, or refused: it may be hostile."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode

from citrate.cli.times import span, utc
from citrate.core.errors import ChainError
from citrate.core.records import Status
from citrate.registry import cases
from citrate.registry.abi_codec import Frame
from citrate.registry.cases import Case, Outcome

CASE = "(bytes32,address,string,uint256,uint64,uint64,uint64,uint256,uint256,uint256,uint256,uint256,uint8,bool)"
EVIDENCE = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"


def answer(outcome: int = 0, evidence: str = EVIDENCE, remove: int = 0, keep: int = 0) -> bytes:
    row = (b"\x11" * 32, "0x" + "22" * 20, evidence, 5, 6, 7, 8, 9, 10, 11, remove, keep, outcome, False)
    return bytes(encode([CASE], [row]))


def read(data: bytes) -> Case:
    return cases.get_case(3).decode(Frame(data))


def test_every_field_is_read_from_its_place() -> None:
    case = read(answer(remove=12, keep=13, outcome=2))
    assert (case.number, case.subject, case.reporter) == (3, "0x" + "11" * 32, "0x" + "22" * 20)
    assert (case.evidence, case.bond_wei, case.opened_at, case.deadline, case.snapshot) == (EVIDENCE, 5, 6, 7, 8)
    assert (case.total_stake_wei, case.quorum_wei, case.quarantine_at_wei) == (9, 10, 11)
    assert (case.for_removal_wei, case.against_wei, case.outcome, case.closed) == (12, 13, Outcome.REJECTED, False)


@pytest.mark.parametrize("number", [5, 255])
def test_an_unknown_outcome_is_refused(number: int) -> None:
    with pytest.raises(ChainError, match=f"outcome {number}"):
        read(answer(number))


@pytest.mark.parametrize("evidence", ["", "../../etc/passwd", "Qm" + "1" * 44, EVIDENCE.upper()])
def test_evidence_that_is_no_cid_is_refused(evidence: str) -> None:
    with pytest.raises(ChainError):
        read(answer(evidence=evidence))


@pytest.mark.parametrize("cut", range(0, 480, 32))
def test_a_cut_off_answer_is_a_chain_error_and_no_crash(cut: int) -> None:
    with pytest.raises(ChainError):
        read(answer()[:cut])


@pytest.mark.parametrize(
    ("outcome", "remove", "keep", "status"),
    [
        (0, 0, 0, Status.FLAGGED),
        (0, 11, 11, Status.FLAGGED),
        (0, 10, 0, Status.FLAGGED),
        (0, 11, 10, Status.QUARANTINED),
        (1, 11, 10, Status.REMOVED),
        (2, 10, 11, Status.ACTIVE),
        (3, 11, 0, Status.ACTIVE),
        (4, 11, 0, Status.ACTIVE),
    ],
)
def test_what_a_case_makes_of_its_subject(outcome: int, remove: int, keep: int, status: Status) -> None:
    assert read(answer(outcome, remove=remove, keep=keep)).status is status


def test_times_are_told_as_people_read_them() -> None:
    assert utc(1_795_000_000) == "2026-11-18 11:06 UTC"
    assert [span(s) for s in (59, 61, 3_600, 90_000, 604_799)] == [
        "less than a minute",
        "1 min",
        "1 h",
        "1 d 1 h",
        "6 d 23 h",
    ]
