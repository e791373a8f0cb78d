"""What is asked for by its CID alone, from anybody: a whole DAG into the store, or bytes of a file to print.

No manifest says what to expect, so every block is compared with the CID that led to it, from the one the user named
down to the last; a source can withhold bytes, and change none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from citrate.core.errors import FormatError, IntegrityError, NotFoundError, StoreError
from citrate.core.sink import Progress
from citrate.registry import reader
from citrate.registry.attempts import NOBODY_HINT, Attempts
from citrate.registry.byte_span import ByteSpan
from citrate.registry.cid import Cid
from citrate.registry.paths import Entity, find, require_printable
from citrate.registry.sources import Source
from citrate.registry.sources.cars import CarFed, CarGiver, entity_request, verified
from citrate.registry.store import Store
from citrate.registry.store.importing import Imported, keep

__all__ = ["Blocks", "ByteSpan", "FetchedDag", "cat", "fetch_dag"]


class Blocks:
    """Verified blocks: the store's, and else those of the first source that has them.

    Args:
        store: asked first.
        sources: asked in this order; who gave the last block is asked first for the next.
        first: the CAR to ask each source for; empty: the whole DAG below what is missing.
        counted: told how many bytes came from a source.
    """

    def __init__(
        self,
        store: Store,
        sources: Sequence[Source],
        first: str = "",
        counted: Callable[[str, int], None] | None = None,
    ) -> None:
        self._store = store
        own = [source.another() for source in sources]
        fed: list[Source] = [CarFed(source, first) if isinstance(source, CarGiver) else source for source in own]
        self._feeds = [source for source in fed if isinstance(source, CarFed)]
        self._attempts = Attempts(fed)
        self._counted = counted
        self._last = ("", b"")

    def __call__(self, cid: str) -> bytes:
        """The block of a CID.

        Raises:
            NotFoundError: the store does not have it, and there is no source.
            StoreError: no source has it.
            IntegrityError: who gave it gave another, and no other source has it; or the store's is damaged.
            FormatError: a hash function that is not known here.
        """
        wanted = Cid.parse(cid)
        if cid == self._last[0]:  # a walk looks at the root of a file twice, and many leaves are all zeros
            return self._last[1]
        try:
            return self._store.block(cid)
        except NotFoundError as error:
            if not self._attempts.sources:
                raise NotFoundError(error.message, hint=NOBODY_HINT) from error
        except IntegrityError:
            if not self._attempts.sources:
                raise
        block, name = self._attempts.attempt(cid, lambda source: verified(wanted, source.block(cid)))
        self._last = (cid, block)
        if self._counted is not None:
            self._counted(name, len(block))
        self._attempts.sources = sorted(self._attempts.sources, key=lambda source: source.name != name)
        return block

    def told(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Who gave blocks, and who gave wrong ones."""
        return tuple(self._attempts.givers), tuple(self._attempts.lies)

    def close(self) -> None:
        """End what is still coming."""
        self._attempts.close()
        for feed in self._feeds:
            if not self._attempts.is_asking(feed.name):  # else it was stopped
                feed.close()


def cat(
    store: Store, sources: Sequence[Source], cid: str, path: str = "", span: ByteSpan | None = None
) -> Iterator[bytes]:
    """The bytes of a file, of which only the blocks that prove them are fetched; nothing of it is kept.

    Args:
        store: asked first.
        sources: asked for what it lacks, in this order.
        cid: the file's, or that of a folder or document above it.
        path: names from there to the file, between ``/``.
        span: which bytes; None: all.

    Raises:
        NotFoundError: the path does not exist, or the store lacks a block and there is no source.
        FormatError: no CID, a folder, a place inside a document, or a range behind the end.
        StoreError: no source has it.
        IntegrityError: who gave it gave other bytes, and no other source has them.
    """
    span = span or ByteSpan()
    stop = None if span.last is None else span.last + 1
    with closing(Blocks(store, sources, entity_request(cid, path, span.first, stop))) as read:
        found = find(read, cid, path)
        require_printable(found, f"{cid}/{path}".rstrip("/"))
        start, end = span.within(found.size_bytes)
        if start >= found.size_bytes and not span.is_all:
            raise FormatError(f"the range begins at byte {start} of {found.size_bytes}", hint="choose another --range")
        if found.entity is Entity.FILE:
            yield from reader.content(read, found.cid, start, end)
        else:
            yield read(found.cid)[start:end]


@dataclass(frozen=True)
class FetchedDag:
    """A DAG that is in the store now. ``sources``: who gave blocks; ``dropped``: who gave wrong ones."""

    imported: Imported
    fetched_bytes: int
    sources: tuple[str, ...]
    dropped: tuple[str, ...]


def fetch_dag(
    store: Store, sources: Sequence[Source], cid: str, reason: str, progress: Progress | None = None
) -> FetchedDag:
    """Fetch a whole DAG into the store and pin it, or go on to; what has arrived is kept for the next attempt.

    What citrate itself could have written becomes plain files; anything else is kept as blocks.

    Args:
        store: where to; blocks that it has are not fetched.
        sources: asked in this order.
        cid: the DAG's root.
        reason: who needs it.
        progress: called with the stage ``fetch`` and bytes; nobody knows the total.

    Raises:
        FormatError: no CID, a malformed block, or a codec or hash that is not known here.
        StoreError: no source has all of it, or the store cannot take it.
        IntegrityError: who gave a block gave another, and no other source has it.
    """
    root, count = Cid.parse(cid), _Count(progress)
    if not sources and not store.has(cid) and not store.has_whole_dag(cid):
        raise StoreError(
            f"{cid} is not in the store as a whole, and there is no source to ask",
            hint=NOBODY_HINT,
            cid=cid,
        )
    with (
        closing(Blocks(store, sources, counted=count.add)) as read,
        store.dag_writer(elsewhere=read, resumes=f"{root}.dag") as writer,
    ):
        count.begin(writer.size_bytes)
        (imported,) = keep(store, writer, [root], reason)
        writer.forget()
        return FetchedDag(imported, count.fetched_bytes, *read.told())


class _Count:
    """What came from sources, told as progress."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._before_bytes = 0
        self.fetched_bytes = 0

    def begin(self, before_bytes: int) -> None:
        """Bytes that earlier attempts fetched."""
        self._before_bytes = before_bytes

    def add(self, source: str, length: int) -> None:
        self.fetched_bytes += length
        if self._progress is not None:
            self._progress("fetch", self._before_bytes + self.fetched_bytes, 0, source)
