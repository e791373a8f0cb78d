"""Sales, moderation and policy as plain dictionaries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.differential.encoding import ZERO, Fold, Refused, cid_text
from tests.differential.lora_model import ACTIVE, FLAGGED, QUARANTINED, REMOVED
from tests.differential.registry_model import Now, RegistryModel

ETHER = 10**18
PERIOD = 7 * 86_400
MIN_BOND, MAX_DOUBLINGS = ETHER // 20, 10
STANDING, UPHELD, REJECTED, NO_QUORUM, LIFTED = range(5)  # as IModeration.Outcome; STANDING is Open


class Credits:
    """Money that waits for its owner. ``refusers`` take no ether."""

    def __init__(self, refusers: frozenset[str]) -> None:
        self.credit: defaultdict[str, int] = defaultdict(int)
        self.refusers = refusers
        self.fold = Fold()

    def withdraw(self, sender: str, to: str) -> None:
        if to == ZERO:
            raise Refused("InvalidAccount")
        amount = self.credit[sender]
        if not amount:
            raise Refused("NothingToWithdraw", sender)
        if to in self.refusers:
            raise Refused("FailedCall")
        self.credit[sender] = 0
        self.fold.log("Withdrawn(address,address,uint256)", [sender, to], ["uint256"], [amount])

    def credit_of(self, who: str) -> int:
        return self.credit[who]

    def total_credit(self) -> int:
        return sum(self.credit.values())


class PolicyModel:
    """Every write and every view of Policy."""

    def __init__(self, authority: str, timelock: str, with_code: frozenset[str]) -> None:
        self.authority, self.timelock, self.with_code = authority, timelock, with_code
        self.moderation = ZERO
        self.begun = False
        self.fee_recipient, self.fee_basis_points = ZERO, 0
        self.fold = Fold()

    def appoint(self, sender: str, moderation: str) -> None:
        if sender != self.timelock and (sender != self.authority or self.begun):
            raise Refused("NotAuthority", sender)
        if moderation != ZERO and moderation not in self.with_code:
            raise Refused("InvalidModeration", moderation)
        self.moderation, self.begun = moderation, True
        self.fold.log("ModerationAppointed(address)", [moderation], [], [])

    def set_fee(self, sender: str, recipient: str, basis_points: int) -> None:
        if sender != self.timelock:
            raise Refused("NotAuthority", sender)
        if basis_points > 250 or (basis_points and recipient == ZERO):
            raise Refused("InvalidFee", recipient, basis_points)
        self.fee_recipient, self.fee_basis_points = recipient, basis_points
        self.fold.log("FeeSet(address,uint256)", [recipient], ["uint256"], [basis_points])

    def fee(self) -> tuple:
        return self.fee_recipient, self.fee_basis_points


class AccessModel(Credits):
    """Every write and every view of ModelAccess."""

    def __init__(self, registry: RegistryModel, policy: PolicyModel, refusers: frozenset[str]) -> None:
        super().__init__(refusers)
        self.registry, self.policy = registry, policy
        self.prices: dict[bytes, int] = {}
        self.grants: dict[tuple[bytes, str], int] = {}

    def set_price(self, sender: str, thing: bytes, price: int) -> None:
        mid, owner, _ = self._offer(thing)
        if sender != owner:
            raise Refused("NotOwner", mid, sender)
        if price >= 1 << 248:
            raise Refused("SafeCastOverflowedUintDowncast", 248, price)
        self.prices[thing] = price
        self.fold.log("PriceSet(bytes32,uint256)", [thing], ["uint256"], [price])

    def sell(self, now: Now, sender: str, sent: int, thing: bytes, to: str, most: int) -> None:
        mid, seller, price = self._offer(thing)
        if not price:
            raise Refused("NotForSale", thing)
        if price > most:
            raise Refused("PriceAboveMaximum", price, most)
        if price > sent:
            raise Refused("Underpaid", price, sent)
        self._grant(now, mid, thing, to)
        fee = self._fee(price)
        self.credit[seller] += price - fee
        self.credit[self.policy.fee_recipient] += fee
        self.credit[sender] += sent - price
        self._log_grant(thing, to, sender, price, fee, seller)

    def grant(self, now: Now, sender: str, thing: bytes, to: str) -> None:
        mid, owner, _ = self._offer(thing)
        if sender != owner:
            raise Refused("NotOwner", mid, sender)
        self._grant(now, mid, thing, to)
        self._log_grant(thing, to, sender, 0, 0, ZERO)

    def quote(self, thing: bytes) -> tuple:
        _, seller, price = self._offer(thing)
        return price, self._fee(price), seller

    def has_access(self, thing: bytes, who: str) -> bool:
        mid, owner, price = self._offer(thing)
        return who == owner or self._granted(mid, thing, who) or (thing != mid and not price)

    def granted_at(self, thing: bytes, who: str) -> int:
        return self.grants.get((thing, who), 0)

    def _offer(self, thing: bytes) -> tuple[bytes, str, int]:
        """The model, its owner, the price."""
        if thing in self.registry.all_versions:
            mid, owner, initial, _ = self.registry.terms_of(thing)
            return mid, owner, self.prices.get(thing, initial)
        if thing in self.registry.models:
            return thing, self.registry.owner_of(thing), self.prices.get(thing, 0)
        raise Refused("UnknownId", thing)

    def _fee(self, price: int) -> int:
        return price * self.policy.fee_basis_points // 10_000 if self.policy.fee_recipient != ZERO else 0

    def _granted(self, mid: bytes, thing: bytes, who: str) -> bool:
        return (thing, who) in self.grants or (mid, who) in self.grants

    def _grant(self, now: Now, mid: bytes, thing: bytes, to: str) -> None:
        if to == ZERO:
            raise Refused("InvalidAccount")
        if self._granted(mid, thing, to):
            raise Refused("AlreadyGranted", thing, to)
        self.grants[thing, to] = now.time

    def _log_grant(self, thing: bytes, to: str, payer: str, price: int, fee: int, seller: str) -> None:
        signature = "AccessGranted(bytes32,address,address,uint256,uint256,address)"
        self.fold.log(signature, [thing, to, payer], ["uint256", "uint256", "address"], [price, fee, seller])


@dataclass
class Case:
    subject: bytes
    reporter: str
    codec: int
    evidence: bytes
    bond: int
    opened_at: int
    snapshot: int
    total_stake: int
    votes: dict[str, tuple[int, bool]] = field(default_factory=dict)
    lifted: bool = False
    closed: bool = False

    @property
    def deadline(self) -> int:
        return self.opened_at + PERIOD

    def tally(self, for_removal: bool) -> int:
        return sum(weight for weight, removal in self.votes.values() if removal == for_removal)

    @property
    def quorum(self) -> int:
        return max(-(-self.total_stake // 5), 5 * ETHER)

    @property
    def quarantine_at(self) -> int:
        return max(-(-self.total_stake // 20), 2 * ETHER)

    def outcome(self, now: Now) -> int:
        if self.lifted:
            return LIFTED
        if now.time <= self.deadline:
            return STANDING
        yes, no = self.tally(True), self.tally(False)
        if yes + no < self.quorum:
            return NO_QUORUM
        return UPHELD if yes > no else REJECTED


class ModerationModel(Credits):
    """Every write and every view of Moderation. ``owner_of_subject``: who answers for one, or the zero address."""

    def __init__(self, guardian: str, owner_of_subject: Callable[[bytes], str], refusers: frozenset[str]) -> None:
        super().__init__(refusers)
        self.guardian, self.owner_of_subject = guardian, owner_of_subject
        self.stakes: defaultdict[str, int] = defaultdict(int)
        self.locked: defaultdict[str, int] = defaultdict(int)
        self.history: list[tuple[int, str, int]] = []
        self.cases: list[Case] = []

    # ---- writing

    def stake(self, now: Now, sender: str, sent: int) -> None:
        if not sent:
            raise Refused("InvalidAmount")
        self._set_stake(now, sender, self.stakes[sender] + sent)
        self.fold.log("Staked(address,uint256)", [sender], ["uint256"], [sent])

    def unstake(self, now: Now, sender: str, amount: int) -> None:
        if not amount:
            raise Refused("InvalidAmount")
        if now.time <= self.locked[sender]:
            raise Refused("StakeLocked", sender, self.locked[sender])
        if amount > self.stakes[sender]:
            raise Refused("InsufficientStake", sender, self.stakes[sender])
        self._set_stake(now, sender, self.stakes[sender] - amount)
        self.fold.log("Unstaked(address,uint256)", [sender], ["uint256"], [amount])

    def report(self, now: Now, sender: str, sent: int, subject: bytes, codec: int, evidence: bytes) -> None:
        if codec not in (0x55, 0x70) or not any(evidence):
            raise Refused("InvalidEvidence")
        if self.owner_of_subject(subject) == ZERO:
            raise Refused("UnknownId", subject)
        newest = self._newest(subject)
        number = self.case_of(subject, now)[0]
        if newest and newest.outcome(now) == STANDING:
            raise Refused("CaseOpen", subject, number)
        if newest and newest.outcome(now) == UPHELD:
            raise Refused("AlreadyRemoved", subject)
        bond = self.bond_of(subject, now)
        if sent != bond:
            raise Refused("WrongBond", bond, sent)
        if any(c.subject == subject and c.evidence == evidence for c in self.cases):
            raise Refused("EvidenceUsed", evidence)
        if newest and not newest.closed:
            self._pay_out(number, newest, newest.outcome(now))
        total = sum(self._stakes_at(now.block - 1).values())
        self.cases.append(Case(subject, sender, codec, evidence, bond, now.time, now.block - 1, total))
        signature = "Reported(uint256,bytes32,address,uint256,uint256,uint8,bytes32)"
        values = [bond, now.time + PERIOD, codec, evidence]
        self.fold.log(signature, [len(self.cases), subject, sender], ["uint256", "uint256", "uint8", "bytes32"], values)

    def vote(self, now: Now, sender: str, number: int, for_removal: bool) -> None:
        case = self._open(number, now)
        if sender in case.votes:
            raise Refused("AlreadyVoted", number, sender)
        weight = min(self._stakes_at(case.snapshot)[sender], self.stakes[sender])
        if not weight:
            raise Refused("NoVotes", number, sender)
        self.locked[sender] = max(self.locked[sender], case.deadline)
        case.votes[sender] = (weight, for_removal)
        case.total_stake = min(case.total_stake, sum(self.stakes.values()))
        types = ["bool", "uint256"]
        self.fold.log("Voted(uint256,address,bool,uint256)", [number, sender], types, [for_removal, weight])

    def close(self, now: Now, number: int) -> None:
        case = self._case(number)
        outcome = case.outcome(now)
        if outcome == STANDING:
            raise Refused("CaseGoesOn", number, case.deadline)
        if case.closed:
            raise Refused("CaseClosed", number)
        self._pay_out(number, case, outcome)

    def lift(self, now: Now, sender: str, number: int) -> None:
        if sender != self.guardian:
            raise Refused("NotGuardian", sender)
        case = self._open(number, now)
        case.lifted = True
        self._pay_out(number, case, LIFTED)

    # ---- reading

    def status_of(self, subject: bytes, now: Now) -> int:
        case = self._newest(subject)
        if case is None:
            return ACTIVE
        outcome = case.outcome(now)
        if outcome == UPHELD:
            return REMOVED
        if outcome != STANDING:
            return ACTIVE
        yes = case.tally(True)
        return QUARANTINED if yes >= case.quarantine_at and yes > case.tally(False) else FLAGGED

    def get_case(self, number: int, now: Now) -> tuple:
        case = self._case(number)
        opening = (case.subject, case.reporter, cid_text(case.codec, case.evidence), case.bond, case.opened_at)
        limits = (case.deadline, case.snapshot, case.total_stake, case.quorum, case.quarantine_at)
        return (*opening, *limits, case.tally(True), case.tally(False), case.outcome(now), case.closed)

    def case_count(self) -> int:
        return len(self.cases)

    def case_of(self, subject: bytes, now: Now) -> tuple:
        mine = [(i + 1, c) for i, c in enumerate(self.cases) if c.subject == subject]
        failed = sum(c.outcome(now) not in (STANDING, UPHELD) for _, c in mine)
        return (mine[-1][0] if mine else 0), failed

    def bond_of(self, subject: bytes, now: Now) -> int:
        return MIN_BOND << min(self.case_of(subject, now)[1], MAX_DOUBLINGS)

    def vote_of(self, number: int, who: str) -> tuple:
        known = 1 <= number <= len(self.cases)
        return self.cases[number - 1].votes.get(who, (0, False)) if known else (0, False)

    def stake_of(self, who: str) -> tuple:
        return self.stakes[who], self.locked[who]

    def stake_at(self, who: str, block: int, now: Now) -> int:
        if block >= now.block:
            raise Refused("BlockNotOver", block)
        return self._stakes_at(block)[who]

    def totals(self) -> tuple:
        bonds = sum(c.bond for c in self.cases if not c.closed)
        return sum(self.stakes.values()), bonds, self.total_credit()

    # ---- parts

    def _newest(self, subject: bytes) -> Case | None:
        return next((c for c in reversed(self.cases) if c.subject == subject), None)

    def _case(self, number: int) -> Case:
        if not 1 <= number <= len(self.cases):
            raise Refused("UnknownCase", number)
        return self.cases[number - 1]

    def _open(self, number: int, now: Now) -> Case:
        case = self._case(number)
        if case.outcome(now) != STANDING:
            raise Refused("CaseEnded", number)
        return case

    def _pay_out(self, number: int, case: Case, outcome: int) -> None:
        case.closed = True
        beneficiary = case.reporter
        if outcome == REJECTED:
            beneficiary = self.owner_of_subject(case.subject)
            beneficiary = self.guardian if beneficiary == ZERO else beneficiary
        self.credit[beneficiary] += case.bond
        signature = "Closed(uint256,bytes32,uint8,address)"
        self.fold.log(signature, [number, case.subject], ["uint8", "address"], [outcome, beneficiary])

    def _set_stake(self, now: Now, who: str, amount: int) -> None:
        self.stakes[who] = amount
        self.history.append((now.block, who, amount))

    def _stakes_at(self, block: int) -> defaultdict[str, int]:
        """What everybody had staked at the end of a block."""
        stakes: defaultdict[str, int] = defaultdict(int)
        for changed_at, who, amount in self.history:
            if changed_at <= block:
                stakes[who] = amount
        return stakes
