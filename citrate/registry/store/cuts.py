"""Whether the files of an object are cut as one profile says, so that hashing them again gives the same CIDs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from citrate.core.errors import IntegrityError
from citrate.core.records import TENSOR_PROFILE, FileEntry
from citrate.registry.cutting import tensor_ends
from citrate.registry.dag import CHUNK_BYTES
from citrate.registry.leaves import Leaves
from citrate.registry.store.index import StagedFile

Content: TypeAlias = Callable[[FileEntry], Iterable[bytes]]
"""The bytes of a file, in pieces; no more are taken than its header."""


def cut_otherwise(files: Sequence[tuple[FileEntry, Leaves]], content: Content) -> FileEntry | None:
    """The first file whose leaves are those of neither profile, if one of the files was cut at its tensors.

    Then all must be cut by that profile: a file that has the usual leaves although it holds tensors is wrong too.
    """
    if all(entry.tsize is None for entry, _ in files):
        return None
    for entry, leaves in files:
        found = [leaf.end for leaf in leaves]
        if found != list(tensor_ends(content(entry), entry.size_bytes)):
            return entry
    return None


def require_cut(folder: Path, files: Sequence[StagedFile]) -> None:
    """Check files that were fetched.

    Raises:
        IntegrityError: one is cut as no profile says.
    """
    wrong = cut_otherwise([(file.entry, file.leaves) for file in files], lambda entry: _pieces(folder / entry.path))
    if wrong is not None:
        raise IntegrityError(
            f"{wrong.path}: its leaves do not end where {TENSOR_PROFILE} says",
            path=wrong.path, expected=TENSOR_PROFILE, actual="other leaves",
        )  # fmt: skip


def _pieces(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            yield piece
