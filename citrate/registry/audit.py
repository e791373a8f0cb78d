"""Which contracts of a chain keep a change root, where they are, and at which block their changes are proved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from citrate.core.errors import CitrateError, NotFoundError
from citrate.registry.artifacts import MODERATION, POLICY
from citrate.registry.change_events import LOGGED
from citrate.registry.change_watch import appointed, default_tag
from citrate.registry.changes import ChangeCursor, Proved, prove

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


def places(chain: Contract, tag: str) -> tuple[Place, ...]:
    """Every contract of the chain that keeps a change root, in the order of the stack.

    Moderation may have been replaced: every contract that the policy ever appointed is listed, since stakes, bonds and
    credits stay in the old ones. Which they are is proved by the policy's own root.

    Raises:
        ChainError: the chain does not answer, or the policy's logs are not whole.
    """
    found = []
    for contract in LOGGED:
        if contract == MODERATION:
            found += [Place(MODERATION, address) for address in _moderations(chain, tag)]
        elif address := chain.find(contract):
            found.append(Place(contract, address))
    return tuple(found)


def audit(session: Session, contract: str = "", tag: str = "") -> tuple[Verdict, ...]:
    """Prove the changes of every contract (or of one) from the first to a block; one verdict for each.

    Raises:
        NotFoundError: no contract of this name keeps a change root on this chain.
        ChainError: the chain does not answer.
    """
    if contract:
        _require_logged(contract)
    chain = session.chain
    tag = tag or default_tag(chain)
    wanted = [place for place in places(chain, tag) if contract in ("", place.contract)]
    if not wanted:
        chain.require(contract)
    return tuple(_verdict(chain, place, tag) for place in wanted)


def _verdict(chain: Contract, place: Place, tag: str) -> Verdict:
    try:
        return Verdict(place, prove(chain, place.contract, tag=tag, address=place.address), None)
    except CitrateError as error:
        return Verdict(place, None, error)


def _moderations(chain: Contract, tag: str) -> tuple[str, ...]:
    return appointed(prove(chain, POLICY, tag=tag)) if chain.find(POLICY) else ()


def _require_logged(contract: str) -> None:
    if contract not in LOGGED:
        raise NotFoundError(f"{contract!r} keeps no change root", hint=f"one of {', '.join(LOGGED)}")
