"""Objects that were found damaged are made whole again from other sources; what is still right of them is kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

from citrate.core.errors import CitrateError, StoreError
from citrate.core.sink import Progress
from citrate.registry.attempts import Attempts
from citrate.registry.cid import Cid
from citrate.registry.fetching import fetch_artifact
from citrate.registry.sources import Source
from citrate.registry.sources.cars import verified
from citrate.registry.store import Damage, Store


@dataclass(frozen=True)
class Mended:
    """What became of a damaged object: who gave its bytes, or why it could not be mended."""

    cid: str
    source: str
    error: CitrateError | None = None


def mend(
    store: Store, damages: Iterable[Damage], sources: Sequence[Source], progress: Progress | None = None
) -> list[Mended]:
    """Mend each damaged object once, from the first source that has it; one that cannot be mended stays refused.

    Args:
        store: where they are.
        damages: what ``Store.damages`` found.
        sources: asked in this order.
        progress: called with the stage ``fetch`` and bytes.
    """
    done = list[Mended]()
    for cid in dict.fromkeys(damage.cid for damage in damages):
        if not cid:  # the index itself
            continue
        try:
            if not sources:
                raise StoreError("there is no source to mend it from", hint="citrate store verify --repair --from URL")
            done.append(Mended(cid, _mend_one(store, cid, sources, progress)))
        except CitrateError as error:
            done.append(Mended(cid, "", error))
    return done


def _mend_one(store: Store, cid: str, sources: Sequence[Source], progress: Progress | None) -> str:
    if not store.stored(cid).blocks:
        return fetch_artifact(store.artifact(cid), store, sources, progress).source
    with closing(Attempts.of(sources)) as attempts:

        def fetch(block: str) -> bytes:
            return attempts.attempt(block, lambda source: verified(Cid.parse(block), source.block(block)))[0]

        store.mend_blocks(cid, fetch)
        return ", ".join(attempts.givers)
