"""Which objects make way: what nobody needs, what was pulled and lies unused, and what does not fit the room there is.

Pins decide, and pulls count less than the others: what was published, added, imported, mirrored or pinned by hand never
goes, whatever the limit; what was pulled goes only where an age or a limit asks for it, least recently used first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from citrate.core.bytesizes import human_size
from citrate.core.errors import NotPermittedError
from citrate.registry.store.inventory import StoredObject

GB = 1_000_000_000
"""Limits are in decimal units, as disks are sold."""
UNPINNED_SPARED_S = 3600
"""What was stored or used more recently than this and has no pin yet is somebody's work in progress: room that is made
unasked is not made of it."""
_LIMITS_OF_GC = "--max-size (or the setting cache_max_gb, where it is not given)"
_LIMIT_OF_THE_HOME = "cache_max_gb"


def collectable(
    objects: Iterable[StoredObject], now_s: float, *, older_than_s: float | None = None, max_bytes: int | None = None
) -> list[StoredObject]:
    """What goes when the user asks for a collection, least recently used first.

    Args:
        objects: all of the store's.
        now_s: unix seconds.
        older_than_s: pulled objects that were not used for so long go too.
        max_bytes: pulled objects go until all objects together have no more than this.

    Raises:
        NotPermittedError: what is needed for other reasons than a pull has more than ``max_bytes`` by itself.
    """
    standing = _least_used_first(objects)
    going = [stored for stored in standing if not stored.pinned]
    pulled = [stored for stored in standing if stored.pinned and stored.is_replaceable]
    if older_than_s is not None:
        going += [stored for stored in pulled if now_s - stored.used_s >= older_than_s]
    if max_bytes is not None:
        gone = {stored.cid for stored in going}
        left = [stored for stored in standing if stored.cid not in gone]
        going += _down_to(max_bytes, left, [stored for stored in pulled if stored.cid not in gone], 0, _LIMITS_OF_GC)
    return going


def making_way(
    objects: Iterable[StoredObject], now_s: float, max_bytes: int, needed_bytes: int, spared: Collection[str] = ()
) -> list[StoredObject]:
    """What goes so that ``needed_bytes`` more still fit into ``max_bytes``, least recently used first; see
    ``collectable``. ``spared``: the CIDs of what is needed together with what comes."""
    standing = _least_used_first(objects)
    others = [stored for stored in standing if stored.cid not in spared]
    free = [stored for stored in others if not stored.pinned and now_s - stored.used_s >= UNPINNED_SPARED_S]
    pulled = [stored for stored in others if stored.pinned and stored.is_replaceable]
    return _down_to(max_bytes, standing, free + pulled, needed_bytes, _LIMIT_OF_THE_HOME)


def _least_used_first(objects: Iterable[StoredObject]) -> list[StoredObject]:
    return sorted(objects, key=lambda stored: stored.used_s)


def _down_to(
    max_bytes: int, standing: Sequence[StoredObject], may_go: Sequence[StoredObject], needed_bytes: int, limit: str
) -> list[StoredObject]:
    total = sum(stored.size_bytes for stored in standing) + needed_bytes
    going = []
    for stored in may_go:
        if total <= max_bytes:
            break
        going.append(stored)
        total -= stored.size_bytes
    if total > max_bytes:
        wanted = f" and {human_size(needed_bytes)} more are wanted" if needed_bytes else ""
        raise NotPermittedError(
            f"what is needed here has {human_size(total - needed_bytes)}{wanted}, the limit is {human_size(max_bytes)}",
            hint=f"citrate store ls shows what is kept and for whom; raise {limit}, or citrate store unpin CID",
        )
    return going
