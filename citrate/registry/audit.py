"""Which contracts of a chain keep a change root, where they are, and at which block their changes are proved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from citrate.core.errors import ChainError, CitrateError, ConfigError, NotFoundError
from citrate.registry.artifacts import MODERATION, POLICY
from citrate.registry.change_events import LOGGED
from citrate.registry.change_watch import appointed, default_tag
from citrate.registry.changes import ChangeCursor, Proved, prove
from citrate.registry.contract import NAME_WHO_GOVERNS

if TYPE_CHECKING:
    from citrate.registry.contract import Contract
    from citrate.registry.session import Session


@dataclass(frozen=True)
class Place:
    """A contract that keeps a change root. There may be several moderations: those that were ever appointed."""

    contract: str
    address: str


@dataclass(frozen=True)
class Verdict:
    """A contract's changes: proved, or why not."""

    place: Place
    proved: Proved | None
    error: CitrateError | None

    @property
    def ok(self) -> bool:
        """Whether every change is there."""
        return self.proved is not None


def prove_one(session: Session, contract: str, cursor: ChangeCursor | None = None, tag: str = "") -> Proved:
    """Every change of one contract of the stack; see `citrate.registry.changes.prove`.

    Raises:
        NotFoundError: no contract of this name keeps a change root.
        ChainError: the logs are not whole.
    """
    chain = session.chain
    _require_logged(contract)
    return prove(chain, contract, cursor, tag=tag or default_tag(chain))


def audit(session: Session, contract: str = "", tag: str = "") -> tuple[Verdict, ...]:
    """Prove the changes of every contract (or of one) from the first to a block; one verdict for each.

    Moderation may have been replaced: every contract that the policy ever appointed has a verdict, since stakes, bonds
    and credits stay in the old ones. Which they are is proved by the policy's own root.

    Without an authority the contracts that depend on it are named as not looked at, which is not ok.

    Raises:
        NotFoundError: no contract of this name keeps a change root on this chain.
        ConfigError: the one that is asked for depends on an authority, and none is set; or nothing of it stands.
        ChainError: the chain does not answer.
    """
    if contract:
        _require_logged(contract)
    chain = session.chain
    chain.require_governed()
    if contract and contract not in chain.addresses:
        chain.require(contract)
    tag = tag or default_tag(chain)
    verdicts: list[Verdict] = []
    for name in (contract,) if contract else LOGGED:
        verdicts += _moderations(chain, tag) if name == MODERATION else _of(chain, name, tag)
    if not verdicts:
        chain.require(contract)
    return tuple(verdicts)


def _of(chain: Contract, name: str, tag: str) -> tuple[Verdict, ...]:
    """The verdict of one contract; none where the chain does not have it."""
    if name not in chain.addresses:
        return (_not_looked_at(chain, name),)
    try:
        address = chain.find(name)
    except ChainError as error:
        return (Verdict(Place(name, chain.addresses[name]), None, error),)
    return (_verdict(chain, Place(name, address), tag),) if address else ()


def _moderations(chain: Contract, tag: str) -> tuple[Verdict, ...]:
    """The verdicts of all contracts that the policy ever appointed; one that tells why they are not known."""
    if MODERATION not in chain.addresses:
        return (_not_looked_at(chain, MODERATION),)
    for policy in _of(chain, POLICY, tag):
        if policy.proved:
            places = [Place(MODERATION, address) for address in appointed(policy.proved)]
            return tuple(_verdict(chain, place, tag) for place in places)
        unknown = ChainError(
            f"which contracts have moderated is not known: {policy.error.message if policy.error else ''}",
            hint=policy.error.hint if policy.error else "",
        )
        return (Verdict(Place(MODERATION, chain.addresses[MODERATION]), None, unknown),)
    return ()


def _not_looked_at(chain: Contract, name: str) -> Verdict:
    why = f"not looked at: nobody is named who governs chain {chain.chain_id}, which its address follows from"
    return Verdict(Place(name, ""), None, ConfigError(why, hint=NAME_WHO_GOVERNS))


def _verdict(chain: Contract, place: Place, tag: str) -> Verdict:
    try:
        return Verdict(place, prove(chain, place.contract, tag=tag, address=place.address), None)
    except CitrateError as error:
        return Verdict(place, None, error)


def _require_logged(contract: str) -> None:
    if contract not in LOGGED:
        raise NotFoundError(f"{contract!r} keeps no change root", hint=f"one of {', '.join(LOGGED)}")
