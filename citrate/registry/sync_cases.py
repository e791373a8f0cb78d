"""Which versions a mirror has to look at again because of moderation: those of cases that may still change.

A case that has ended never changes, so a mirror remembers how many of the oldest have, and asks for the rest only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from citrate.registry import cases
from citrate.registry.cases import Outcome
from citrate.registry.moderation import Moderation
from citrate.registry.views import NOWHERE

if TYPE_CHECKING:
    from citrate.registry.session import Session


@dataclass(frozen=True)
class Watch:
    """How far a mirror has followed the cases of one moderation contract."""

    moderation: str = ""
    """The contract's address; empty where nobody moderates."""
    settled: int = 0
    """So many of the oldest cases have ended."""


def refused_since(session: Session, watch: Watch) -> tuple[tuple[str, ...], Watch]:
    """The subjects that an open case quarantines, or that were removed since ``watch``; and how far that was looked.

    Raises:
        ChainError: the chain does not answer.
    """
    chain = session.chain
    address = chain.read_if_there(cases.appointed(), chain.pin())
    if address is None or address == NOWHERE:
        return (), Watch()
    settled = watch.settled if watch.moderation == address else 0
    found = Moderation(session).cases_after(settled)
    for case in found:
        if case.outcome is Outcome.OPEN:
            break
        settled = case.number
    refused = dict.fromkeys(case.subject for case in found if case.quarantines or case.outcome is Outcome.UPHELD)
    return tuple(refused), Watch(address, settled)
