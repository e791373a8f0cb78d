"""What a report rests on: a file or folder that is stored and pinned, or the CID of something that is elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from citrate.core.errors import FormatError, NotFoundError
from citrate.registry import cid
from citrate.registry.keeping import kept

if TYPE_CHECKING:
    from citrate.registry.store import Store


def path_of(evidence: str | Path) -> Path | None:
    """The file or folder that is meant, links to it followed; None for a CID.

    Raises:
        NotFoundError: neither.
    """
    path = Path(evidence)
    if path.exists():
        return path.resolve()
    try:
        cid.decode(str(evidence))
    except FormatError:
        raise NotFoundError(
            f"no such file or folder, and no CID: {evidence}", hint="--evidence PATH, or a CID such as bafkrei..."
        ) from None
    return None


@contextmanager
def stored(evidence: str | Path, store: Store, reason: str) -> Iterator[str]:
    """The evidence's CID, for as long as it is being reported.

    A file is stored and pinned before, so that it is there when the chain says so; if the report is refused, no pin of
    it stays.

    Raises:
        NotFoundError: no such file.
    """
    path = path_of(evidence)
    if path is None:
        yield str(evidence)
        return
    where = store.add(path).cid
    with kept(store, [where], reason):
        yield where
