"""Chains of records: each names the one before it, the contract keeps the newest and their number.

So a list is proved whole by the answers themselves, whatever a node leaves out: the walk begins at the contract's head,
each page where the one before it ended, and must come to as many records as the contract counts at the same block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from citrate.core.errors import ChainError
from citrate.registry.contract import Contract
from citrate.registry.views import NOWHERE, Head, Page, View


class _Recorded(Protocol):
    @property
    def record(self) -> str: ...


R = TypeVar("R", bound=_Recorded)


@dataclass(frozen=True)
class Cursor:
    """How far a chain of records was followed: the newest record that is known, and how many there were."""

    record: str
    count: int
    block_number: int


@dataclass(frozen=True)
class NewRecords(Generic[R]):
    """The records after a cursor, oldest first, complete at one block."""

    entries: tuple[R, ...]
    cursor: Cursor
    reorganised: bool
    """The chain no longer has the old cursor's record: ``entries`` is everything, from the first record."""


def since(
    contract: Contract, head_of: View[Head], page_at: Callable[[str], View[Page[R]]], cursor: Cursor | None
) -> NewRecords[R]:
    """Every record after ``cursor`` (all of them without one).

    Raises:
        ChainError: the node's answers do not add up.
    """
    block = contract.pin()
    head = contract.read(head_of, block)
    stop = cursor.record if cursor else NOWHERE
    items: list[R] = []
    at = head.record
    while at not in (stop, NOWHERE):
        page = contract.read(page_at(at), block)
        newer = [item.record for item in page.items]
        if stop in newer:
            newer = newer[: newer.index(stop)]
        require_whole(bool(newer) and newer[0] == at and len(items) < head.count, "records")
        items += page.items[: len(newer)]
        at = page.next if len(newer) == len(page.items) else stop
    reorganised = cursor is not None and at != stop
    counted = 0 if cursor is None or reorganised else cursor.count
    require_whole(len(items) == head.count - counted == len({item.record for item in items}), "records")
    return NewRecords(tuple(reversed(items)), Cursor(head.record, head.count, block.number), reorganised)


def require_whole(whole: bool, what: str) -> None:
    """Refuse a list that is not whole.

    Raises:
        ChainError: it is not.
    """
    if not whole:
        raise ChainError(
            f"the node's list of {what} is not whole, or the chain was reorganised while it was read",
            hint="run it again; if it stays, set another rpc_url",
        )
