"""Objects are kept before the chain tells of them, and let go again if it refuses to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from citrate.core.errors import ChainError, CitrateError

if TYPE_CHECKING:
    from citrate.registry.store import Store


@contextmanager
def kept(store: Store, cids: Sequence[str], reason: str) -> Iterator[None]:
    """Pin objects for a transaction that is sent within; if it is refused, no new pin of them stays."""
    standing = {cid for cid in cids if reason in store.pins(cid)}
    for cid in cids:
        store.pin(cid, reason)
    try:
        yield
    except ChainError:
        raise  # it may still get into a block: the bytes stay
    except CitrateError:
        for cid in cids:
            if cid not in standing:
                store.unpin(cid, reason)
        raise
