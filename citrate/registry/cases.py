"""Cases of moderation, and the stake that decides them: records and views of `IModeration.sol`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from citrate.core.errors import ChainError, FormatError
from citrate.core.records import Status
from citrate.registry import cid
from citrate.registry.abi_codec import Argument, Frame, encode_call
from citrate.registry.artifacts import MODERATION, POLICY
from citrate.registry.ids import checksum
from citrate.registry.views import View

T = TypeVar("T")


class Outcome(StrEnum):
    """How a case stands or ended; the order is the contract's."""

    OPEN = "open"
    UPHELD = "upheld"
    REJECTED = "rejected"
    NO_QUORUM = "no_quorum"
    LIFTED = "lifted"


@dataclass(frozen=True)
class Case:
    """One case. Amounts are wei, times Unix seconds."""

    number: int
    subject: str
    """A version id or a LoRA id."""
    reporter: str
    evidence: str
    """A CID."""
    bond_wei: int
    opened_at: int
    deadline: int
    snapshot: int
    """The block whose stakes count as votes."""
    total_stake_wei: int
    quorum_wei: int
    """The least stake that has to vote."""
    quarantine_at_wei: int
    """The least stake for removal that quarantines."""
    for_removal_wei: int
    against_wei: int
    outcome: Outcome
    closed: bool
    """Whether the bond was paid out."""

    @property
    def quarantines(self) -> bool:
        """Whether an open case keeps its subject quarantined now."""
        enough = self.for_removal_wei >= self.quarantine_at_wei and self.for_removal_wei > self.against_wei
        return self.outcome is Outcome.OPEN and enough

    @property
    def status(self) -> Status:
        """What the case makes of its subject, if it is its newest one."""
        if self.outcome is Outcome.OPEN:
            return Status.QUARANTINED if self.quarantines else Status.FLAGGED
        return Status.REMOVED if self.outcome is Outcome.UPHELD else Status.ACTIVE


@dataclass(frozen=True)
class CaseOf:
    """The newest case of a subject (0: it never had one), and how many of its cases did not end in removal."""

    number: int
    failed: int


@dataclass(frozen=True)
class Stake:
    """What an account has staked, and until when (Unix seconds) it cannot leave; 0 or the past: it can."""

    amount_wei: int
    locked_until: int


@dataclass(frozen=True)
class Vote:
    """With what weight an account voted; 0 if it did not."""

    weight_wei: int
    for_removal: bool


def get_case(number: int) -> View[Case]:
    """One case."""
    return _view(lambda frame: _case(number, frame.frame(0)), "getCase(uint256)", number)


def case_count() -> View[int]:
    """How many cases there are: they are 1..count."""
    return _view(lambda frame: frame.number(0), "caseCount()")


def case_of(subject: str) -> View[CaseOf]:
    """The newest case of a subject."""
    return _view(lambda frame: CaseOf(frame.number(0), frame.number(1)), "caseOf(bytes32)", subject)


def bond_of(subject: str) -> View[int]:
    """The bond of the next report of a subject, in wei."""
    return _view(lambda frame: frame.number(0), "bondOf(bytes32)", subject)


def vote_of(number: int, account: str) -> View[Vote]:
    """How an account voted."""
    return _view(lambda frame: Vote(frame.number(0), frame.flag(1)), "voteOf(uint256,address)", number, account)


def stake_of(account: str) -> View[Stake]:
    """What an account has staked."""
    return _view(lambda frame: Stake(frame.number(0), frame.number(1)), "stakeOf(address)", account)


def guardian() -> View[str]:
    """Who may lift a case."""
    return _view(lambda frame: checksum(frame.address(0)), "guardian()")


def appointed() -> View[str]:
    """The contract that moderates; the zero address if none does."""
    return View(POLICY, encode_call("moderation()"), lambda frame: frame.address(0))


def authority() -> View[str]:
    """Who proposes to the timelock."""
    return View(POLICY, encode_call("authority()"), lambda frame: checksum(frame.address(0)))


def _view(decode: Callable[[Frame], T], signature: str, *arguments: Argument) -> View[T]:
    return View(MODERATION, encode_call(signature, *arguments), decode)


def _case(number: int, row: Frame) -> Case:
    outcome = row.number(12)
    if outcome >= len(Outcome):
        raise ChainError(f"the node answered a case with the outcome {outcome}", hint="check rpc_url")
    evidence = row.text(2)
    try:
        cid.decode(evidence)
    except FormatError as error:
        raise ChainError(f"the node answered {evidence[:80]!r} for a CID", hint="check rpc_url") from error
    return Case(
        number=number,
        subject=row.word(0),
        reporter=checksum(row.address(1)),
        evidence=evidence,
        bond_wei=row.number(3),
        opened_at=row.number(4),
        deadline=row.number(5),
        snapshot=row.number(6),
        total_stake_wei=row.number(7),
        quorum_wei=row.number(8),
        quarantine_at_wei=row.number(9),
        for_removal_wei=row.number(10),
        against_wei=row.number(11),
        outcome=list(Outcome)[outcome],
        closed=row.flag(13),
    )
