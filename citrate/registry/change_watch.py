"""Follow the changes of all contracts of a chain at once: each new one is read once, and proved.

What a mirror remembers between its passes is a cursor for each contract, and which contracts have ever moderated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from citrate.core.settings import DEVNET_CHAIN_ID
from citrate.registry.artifacts import MODERATION, POLICY
from citrate.registry.change_events import LOGGED, ModerationAppointed
from citrate.registry.changes import ChangeCursor, NotYetError, Proved, prove
from citrate.registry.contract import Contract
from citrate.registry.views import NOWHERE


@dataclass(frozen=True)
class ChangeState:
    """How far the changes of a chain are proved."""

    cursors: Mapping[str, ChangeCursor] = field(default_factory=dict)
    """Address of a contract -> its cursor."""
    moderations: tuple[str, ...] = ()
    """Every contract that the policy has appointed so far; stakes, bonds and credits stay in the old ones."""


def default_tag(chain: Contract) -> str:
    """At which block to prove: the finalized one, where the chain has such a thing; the latest of a devnet.

    Raises:
        ChainError: the chain does not answer.
    """
    if chain.chain_id == DEVNET_CHAIN_ID:
        return "latest"
    (finalized,) = chain.rpc.batch([("eth_getBlockByNumber", ["finalized", False])])
    return "finalized" if isinstance(finalized, dict) else "latest"


def advance(chain: Contract, state: ChangeState, tag: str = "") -> tuple[ChangeState, tuple[Proved, ...]]:
    """Read and prove what changed since ``state``, in every contract that the chain has.

    A contract that the block to prove at does not have yet is left out; see ``awaited``.

    Raises:
        ChainError: the chain does not answer, or a contract's logs are not whole; see `citrate.registry.changes`.
    """
    tag = tag or default_tag(chain)
    proved: list[Proved] = []
    moderations = state.moderations
    for contract in sorted(LOGGED, key=lambda name: name == MODERATION):  # the policy says which ones there are
        for address in moderations if contract == MODERATION else filter(None, [chain.find(contract)]):
            try:
                proved.append(prove(chain, contract, state.cursors.get(address), tag=tag, address=address))
            except NotYetError:
                continue
            if contract == POLICY:
                known = () if proved[-1].reorganised else moderations
                moderations = tuple(dict.fromkeys([*known, *appointed(proved[-1])]))
    cursors = {each.address: each.cursor for each in proved}
    return ChangeState(cursors, moderations), tuple(proved)


def awaited(chain: Contract, proved: Sequence[Proved]) -> tuple[str, ...]:
    """The contracts that the chain has, but did not have yet at the block where ``proved`` was proved."""
    done = {each.contract for each in proved}
    # a moderation is appointed after it was deployed, so the policy's changes are there no earlier than it is
    return tuple(name for name in LOGGED if name != MODERATION and name not in done and chain.find(name))


def appointed(policy: Proved) -> tuple[str, ...]:
    """The contracts that were appointed to moderate, as the policy's changes tell."""
    events = [change.event for change in policy.changes]
    found = [event.moderation for event in events if isinstance(event, ModerationAppointed)]
    return tuple(dict.fromkeys(address for address in found if address.lower() != NOWHERE))
