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
    ended: tuple[int, ...] = ()
    """Of the cases after them, those that have ended."""


def refused_since(session: Session, watch: Watch) -> tuple[tuple[str, ...], Watch]:
    """The subjects that an open case quarantines, or that were removed since ``watch``; and how far that was looked.

    Raises:
        ChainError: the chain does not answer.
    """
    chain = session.chain
    address = chain.read_if_there(cases.appointed(), chain.pin())
    if address is None or address == NOWHERE:
        return (), Watch()
    seen = watch if watch.moderation == address else Watch()
    found = Moderation(session).cases_after(seen.settled)
    refused = (
        case.subject
        for case in found
        if case.quarantines or (case.outcome is Outcome.UPHELD and case.number not in seen.ended)
    )
    settled = next((case.number - 1 for case in found if case.outcome is Outcome.OPEN), seen.settled + len(found))
    ended = (case.number for case in found if case.outcome is not Outcome.OPEN and case.number > settled)
    return tuple(dict.fromkeys(refused)), Watch(address, settled, tuple(ended))
