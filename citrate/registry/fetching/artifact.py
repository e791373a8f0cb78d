"""Fetch whole artifacts into the store, or some of an artifact's files out of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from citrate.core.errors import IntegrityError, StoreError
from citrate.core.records import Artifact
from citrate.core.sink import Progress
from citrate.registry.fetching.consistency import check_consistent
from citrate.registry.fetching.engine import STORE, Engine
from citrate.registry.fetching.partial import require_room, take_back, tidy
from citrate.registry.sources import Source
from citrate.registry.store import Store
from citrate.registry.store.layout import disk_errors, prune, remove_tree


@dataclass(frozen=True)
class Fetched:
    """A complete, verified artifact. ``source``: who gave the bytes, ``store`` if nothing had to be fetched.
    ``dropped``: sources that gave wrong bytes on the way."""

    path: Path
    source: str
    fetched_bytes: int
    dropped: tuple[str, ...] = ()


def fetch_artifact(
    expected: Artifact,
    store: Store,
    sources: Sequence[Source],
    progress: Progress | None = None,
) -> Fetched:
    """Fetch an artifact into the store, or continue to.

    Args:
        expected: what a manifest says; its parts are compared with each other before anything is fetched.
        store: takes the object. Leaves that it has already, in whatever object, are not fetched.
        sources: asked side by side; for inner nodes in this order.
        progress: called with the stage ``fetch``, bytes, and who gives them; with ``verify``, where files that are here
            have to be hashed again.

    An object that stands in the store but is damaged is mended: what is still right of it is kept, the rest fetched.

    Raises:
        FormatError: unsafe or contradictory paths.
        IntegrityError: parts of ``expected`` that do not fit together, or wrong bytes; nothing of it is kept.
        StoreError: no source has it (what has arrived is kept for the next attempt), or the store cannot take it.
    """
    check_consistent(expected)
    with disk_errors(store.root, expected.cid), store.layout.lock_partial(expected.cid):
        damage = None
        if store.has(expected.cid):
            try:
                return Fetched(store.get(expected.cid, progress), STORE, 0)
            except IntegrityError as error:
                damage = error
        folder = store.layout.partial(expected.cid)
        engine = Engine(expected.files, expected.cid, store, sources, folder, progress)
        with kept_on_failure(folder, damage):
            take_back(store, expected.cid)
            tidy(folder, {file.path for file in expected.files})
            require_room(folder, store.root, expected.files, expected.cid)
            staged = engine.run()
        if damage is not None:
            store.set_aside(expected.cid)
        with kept_on_failure(folder, None):
            store.adopt(folder, replace(expected, files=tuple(file.entry for file in staged)), staged)
        path = store.get(expected.cid)
        givers = ", ".join(engine.attempts.givers) or STORE
        return Fetched(path, givers, engine.fetched_bytes, tuple(engine.attempts.lies))


@contextmanager
def kept_on_failure(folder: Path, damage: IntegrityError | None) -> Iterator[None]:
    """What has arrived is kept for the next attempt, except where bytes were wrong."""
    try:
        yield
    except IntegrityError:
        remove_tree(folder)
        raise
    except StoreError as error:
        prune(folder)
        raise damage or error from error
    except BaseException:
        prune(folder)
        raise
