"""Reporting what should not be used, and deciding about it by stake (`IModeration.sol`).

The contract asked is the one that `Policy` appoints. It may be replaced: then stake and credit stay with the former
one, which is asked by its address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from citrate.core.amounts import ether, typed
from citrate.core.errors import CitrateError, ConfigError, NotFoundError, UnavailableError
from citrate.core.records import Reference
from citrate.registry import cases, cid, subjects
from citrate.registry.abi_codec import encode_call
from citrate.registry.artifacts import MODERATION
from citrate.registry.cases import Case, Outcome, Stake, Vote
from citrate.registry.contract import Block
from citrate.registry.credits import Withdrawal, credit_of, withdraw
from citrate.registry.evidence import stored
from citrate.registry.guardian import Lift, lift
from citrate.registry.receipts import event
from citrate.registry.rpc import RpcError
from citrate.registry.subjects import Subject
from citrate.registry.views import NOWHERE

if TYPE_CHECKING:
    from citrate.registry.chain import Chain, Receipt
    from citrate.registry.session import Session

_AT_ONCE = 100
"""Cases asked for in one round trip."""


@dataclass(frozen=True)
class Report:
    """A case that was opened."""

    case: Case
    subject: Subject
    receipt: Receipt


class Moderation:
    """Reports, votes, stakes and bonds. Every writing method sends one transaction.

    Args:
        session: the home and the chain.
        address: a former moderation contract; empty for the one that is appointed.
    """

    def __init__(self, session: Session, address: str = "") -> None:
        self._session = session
        self._address = address

    # ------------------------------------------------------------------ reading

    def subject(self, ref: str | Reference) -> Subject:
        """The version or LoRA that a reference or an id (``0x`` and 64 digits) names.

        Raises:
            NotFoundError: there is none.
        """
        return subjects.find(self._session, ref)

    def label(self, id_: str) -> str:
        """The reference of a version id or LoRA id; the id itself where the chain has neither."""
        return self.labels([id_])[id_]

    def labels(self, ids: Iterable[str]) -> Mapping[str, str]:
        """The label of each id, asked for together."""
        return subjects.labels(self._session.chain, ids)

    def bond(self, subject: Subject) -> int:
        """What a report of the subject has to put at stake now, in wei.

        Raises:
            CitrateError: it has an open case, was removed, or is nothing.
        """
        block = self._chain.pin()
        bond, newest = self._chain.read_two(cases.bond_of(subject.id), cases.case_of(subject.id), block)
        case = self._chain.read(cases.get_case(newest.number), block) if newest.number else None
        if case and case.outcome is Outcome.OPEN:
            raise CitrateError(
                f"{subject.label} has an open case: {case.number}", hint=f"citrate case show {case.number}"
            )
        if case and case.outcome is Outcome.UPHELD:
            raise CitrateError(f"{subject.label} is removed already", hint=f"citrate case show {case.number}")
        return bond

    def case(self, number: int) -> Case:
        """One case.

        Raises:
            NotFoundError: there is none of that number.
        """
        return self._chain.read(cases.get_case(number), self._chain.pin())

    def find(self, text: str) -> Case:
        """The case of a number, or the newest one of a reference.

        Raises:
            NotFoundError: there is none.
        """
        if text.isdecimal():
            return self.case(_number(text))
        subject = self.subject(text)
        case = self.newest(subject.id)
        if case is None:
            raise NotFoundError(f"{subject.label} has no case", hint="citrate case list")
        return case

    def newest(self, id_: str) -> Case | None:
        """The newest case of a version or LoRA; None if it never had one."""
        number = self._chain.read(cases.case_of(id_), self._chain.pin()).number
        return self.case(number) if number else None

    def cases(self, limit: int = _AT_ONCE) -> tuple[Case, ...]:
        """The newest cases, newest first, from one block."""
        block = self._chain.pin()
        count = self._chain.read(cases.case_count(), block)
        return self._read_all(range(count, max(count - limit, 0), -1), block)

    def cases_after(self, number: int) -> tuple[Case, ...]:
        """The cases of higher numbers, oldest first, from one block."""
        block = self._chain.pin()
        count = self._chain.read(cases.case_count(), block)
        return self._read_all(range(number + 1, count + 1), block)

    def now(self) -> int:
        """The chain's time, in Unix seconds: what deadlines count by."""
        return self._chain.pin().timestamp

    def stake_of(self, account: str) -> Stake:
        """What an account has staked, and until when it cannot leave."""
        return self._chain.read(cases.stake_of(account), self._chain.pin())

    def credit_of(self, account: str) -> int:
        """What an account is owed of bonds, in wei."""
        return self._chain.read(credit_of(MODERATION, account), self._chain.pin())

    def vote_of(self, case: Case, account: str) -> Vote:
        """How an account voted in a case; weight 0 if it did not."""
        return self._chain.read(cases.vote_of(case.number, account), self._chain.pin())

    # ------------------------------------------------------------------ writing

    def report(self, subject: Subject, evidence: str | Path, bond_wei: int) -> Report:
        """Open a case, with the bond at stake.

        Args:
            subject: what is reported.
            evidence: a CID, or a file or folder, which is stored and pinned.
            bond_wei: what the reporter agreed to; it must be what `bond` tells.

        Raises:
            ConfigError: the bond is another by now; nothing is sent.
            NotFoundError: no such file.
            CitrateError: what `bond` raises; or the evidence was brought before.
        """
        required = self.bond(subject)
        if bond_wei != required:
            raise ConfigError(
                f"the bond for {subject.label} is {ether(required)}, not {ether(bond_wei)}",
                hint=f"--bond {typed(required)}",
            )
        signer = self._session.signer()
        with stored(evidence, self._session.store, f"evidence against {subject.label}") as where:
            codec, digest = cid.decode(where)
            data = encode_call("report(bytes32,uint8,bytes32)", subject.id, codec, "0x" + digest.hex())
            receipt = self._chain.send(signer, MODERATION, data, bond_wei)
        opened = event(
            self._chain, receipt, MODERATION, "Reported(uint256,bytes32,address,uint256,uint256,uint8,bytes32)"
        )
        return Report(self.case(int(opened.topics[0], 16)), subject, receipt)

    def vote(self, case: Case, *, remove: bool) -> tuple[Vote, Receipt]:
        """Vote in an open case for removing the subject, or for keeping it. Once; the stake stays until the deadline.

        Raises:
            NotPermittedError: nothing was staked before the report, or nothing is now.
            CitrateError: voted already, or the case has ended.
        """
        receipt = self._send(encode_call("vote(uint256,bool)", case.number, remove))
        voted = event(self._chain, receipt, MODERATION, "Voted(uint256,address,bool,uint256)").data
        return Vote(voted.number(1), voted.flag(0)), receipt

    def stake(self, amount_wei: int) -> Receipt:
        """Stake an amount; it can vote in cases that are reported in later blocks."""
        return self._send(encode_call("stake()"), amount_wei)

    def unstake(self, amount_wei: int) -> Receipt:
        """Take stake back.

        Raises:
            CitrateError: it is locked by a vote, or less than that is staked.
        """
        return self._send(encode_call("unstake(uint256)", amount_wei))

    def close(self, case: Case) -> Receipt:
        """Pay out the bond of a case that has ended.

        Raises:
            CitrateError: it goes on, or is paid out.
        """
        return self._send(encode_call("close(uint256)", case.number))

    def withdraw(self, to: str = "") -> Withdrawal:
        """Pay out all bonds that the active key is owed; ``to`` is empty for its own address.

        Raises:
            CitrateError: nothing is owed.
        """
        where = self._session.address_of(to) if to else ""
        signer = self._session.signer()
        return withdraw(self._chain, signer, MODERATION, where)

    def lift(self, case: Case) -> Lift:
        """How the guardian would end a case; nothing is sent. See `citrate.registry.guardian`."""
        return lift(self._chain, case)

    # ------------------------------------------------------------------ parts

    @cached_property
    def _chain(self) -> Chain:
        """The chain, asking the moderation contract that counts."""
        chain = self._session.chain
        address = self._session.address_of(self._address) if self._address else appointed(chain)
        if address.lower() != chain.addresses.get(MODERATION, "").lower():
            chain = chain.with_contract(MODERATION, address)
        if self._address:
            _require_moderation(chain, address)
        return chain

    def _read_all(self, numbers: Sequence[int], block: Block) -> tuple[Case, ...]:
        found: list[Case] = []
        for start in range(0, len(numbers), _AT_ONCE):
            asked = [cases.get_case(number) for number in numbers[start : start + _AT_ONCE]]
            outcomes = self._chain.outcomes(asked, block)
            found += [self._chain.value(view, outcome) for view, outcome in zip(asked, outcomes, strict=True)]
        return tuple(found)

    def _send(self, data: bytes, value_wei: int = 0) -> Receipt:
        signer = self._session.signer()
        return self._chain.send(signer, MODERATION, data, value_wei)


def appointed(chain: Chain) -> str:
    """The address of the contract that moderates.

    Raises:
        UnavailableError: the policy names none.
        ConfigError, ChainError: the chain has no Policy.
    """
    address = chain.read(cases.appointed(), chain.pin())
    if address == NOWHERE:
        raise UnavailableError(f"nobody moderates on chain {chain.chain_id}", hint="citrate deploy-contracts")
    return address


def _require_moderation(chain: Chain, address: str) -> None:
    """A former contract may be an older release's, so it is known by what it answers.

    Raises:
        ConfigError: it is some other contract.
    """
    view = cases.case_count()
    outcome = chain.outcomes([view], chain.pin())[0]
    if (isinstance(outcome, RpcError) and outcome.is_revert) or outcome == "0x":
        raise ConfigError(
            f"{address} is no moderation contract", hint="--at ADDRESS of a former one; without --at: the appointed one"
        )
    chain.value(view, outcome)


def _number(text: str) -> int:
    number = int(text) if len(text) < 20 else 0
    if not number:
        raise NotFoundError(f"there is no case {text[:30]}", hint="citrate case list")
    return number
