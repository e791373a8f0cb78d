"""Whether the files of an object are still what they were when it was stored."""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from citrate.core.errors import CitrateError, IntegrityError
from citrate.core.records import PROFILE, TENSOR_PROFILE, Artifact
from citrate.core.sink import Progress
from citrate.registry import unixfs
from citrate.registry.store.database import REINDEX_HINT
from citrate.registry.store.index import Index, IndexedFile, Receipt
from citrate.registry.store.layout import Layout
from citrate.registry.store.pins import Pins
from citrate.registry.unixfs import SourceFile

Result = TypeVar("Result")

REPAIR_HINT = "mend it: citrate store verify --repair --from URL"
VERIFY_HINT = "see all that is damaged: citrate store verify"


class Checker:
    """Compares files on disk with the index."""

    def __init__(self, layout: Layout, index: Index) -> None:
        self._layout = layout
        self._index = index

    def check(self, artifact: Artifact, *, trust_receipts: bool = True, progress: Progress | None = None) -> None:
        """Check an object, reading only the files whose receipts no longer fit, or all of them; several side by side.

        Raises:
            IntegrityError: a file differs, is missing, or stands there in addition.
        """
        self._check_names(artifact)
        files = self._index.files(artifact.cid)
        unsure = [file for file in files if not (trust_receipts and self._fits_its_receipt(file))]
        counter = unixfs.Counter("verify", sum(file.entry.size_bytes for file in unsure), progress)

        def check(file: IndexedFile) -> None:
            self._check_file(file, leaves_too=not trust_receipts, count=counter.add)

        self._each(artifact, unsure, check)

    def damages(self, artifact: Artifact, count: Callable[[int], None]) -> Iterator[CitrateError]:
        """Read and hash every byte of an object, several files side by side; yields what is wrong. ``count`` gets the
        length of each piece."""
        try:
            self._check_names(artifact)
        except IntegrityError as error:
            yield error
            return

        def check(file: IndexedFile) -> CitrateError | None:
            try:
                self._check_file(file, leaves_too=True, count=count)
            except CitrateError as error:
                return error
            return None

        yield from filter(None, self._each(artifact, self._index.files(artifact.cid), check))
        yield from self._damaged_rows(artifact)

    def _each(
        self, artifact: Artifact, files: Sequence[IndexedFile], check: Callable[[IndexedFile], Result]
    ) -> list[Result]:
        """Check some files of an object, several side by side."""
        folder, by_path = self._layout.object(artifact.cid), {file.entry.path: file for file in files}
        cut = any(file.entry.tsize is not None for file in files)
        return unixfs.each(
            [SourceFile(path, folder / path, file.entry.size_bytes) for path, file in by_path.items()],
            lambda source: check(by_path[source.path]),
            busy=unixfs.busy_threads(TENSOR_PROFILE if cut else PROFILE),
        )

    def _damaged_rows(self, artifact: Artifact) -> Iterator[CitrateError]:
        """What the index has of the object's trees and names, against the object's CID."""
        entries = unixfs.artifact(artifact.files, bare=artifact.bare)
        if entries != artifact:
            yield _index_error(f"the index has other names, sizes or hashes of {artifact.cid}", artifact.cid)
        for digest, block in self._index.nodes_of(artifact.cid):
            if hashlib.sha256(block).digest() != digest:
                yield _index_error(f"a block of {artifact.cid} is damaged in the index", artifact.cid)

    def _check_names(self, artifact: Artifact) -> None:
        folder = self._layout.object(artifact.cid)
        expected = {file.path for file in artifact.files}
        found: set[str] = set()
        for directory, folders, names in os.walk(folder):
            prefix = directory[len(str(folder)) + 1 :]
            links = [name for name in folders if os.path.islink(os.path.join(directory, name))]  # noqa: PTH114, PTH118
            found.update(f"{prefix}/{name}" if prefix else name for name in itertools.chain(names, links))
        for path in sorted(expected ^ found):
            missing = path in expected
            raise IntegrityError(
                f"{folder / path} is {'missing' if missing else 'no part of the object'}",
                path=path,
                expected="a file" if missing else "nothing",
                actual="nothing" if missing else "a file",
                hint=REPAIR_HINT,
            )

    def _fits_its_receipt(self, file: IndexedFile) -> bool:
        """Whether a file was not written to since it was last hashed."""
        return Receipt.of((self._layout.object(file.object_cid) / file.entry.path).lstat()) == file.receipt

    def _check_file(self, file: IndexedFile, *, leaves_too: bool, count: Callable[[int], None]) -> None:
        """Hash a file; ``leaves_too``: compare its leaves with the index as well."""
        path = self._layout.object(file.object_cid) / file.entry.path
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise IntegrityError(
                f"{path} is no longer a regular file",
                path=file.entry.path,
                expected=file.entry.sha256,
                actual="no regular file",
                hint=VERIFY_HINT,
            )
        receipt = Receipt.of(status)
        leaves = self._index.leaves(file) if leaves_too else None
        cut = leaves is not None and leaves.ends is not None
        hashed = unixfs.hash_file(path, profile=TENSOR_PROFILE if cut else PROFILE, progress=count)
        if hashed.sha256 != file.entry.sha256:
            raise IntegrityError(
                f"{path} was changed after it was stored",
                path=file.entry.path,
                expected=file.entry.sha256,
                actual=hashed.sha256,
                hint=VERIFY_HINT,
            )
        if leaves is not None and leaves != hashed.cut:
            raise _index_error(f"the index has other blocks of {path} than there are", file.entry.cid)
        if receipt != file.receipt:
            self._index.set_receipt(file.id, receipt)


def index_damages(layout: Layout, index: Index, pins: Pins) -> Iterator[CitrateError]:
    """What is wrong with the index itself: its structure, and pinned objects that it does not know."""
    for fault in index.faults():
        yield _index_error(f"the index is damaged: {fault}", "")
    known = {cid for (cid,) in index.read("SELECT cid FROM objects UNION SELECT cid FROM dags", kinds="s")}
    here = {folder.name for folder in layout.objects()}.union(*map(layout.roots_of, layout.packs()))
    for cid, needed in sorted(pins.all().items()):
        if cid in here - known:
            yield _index_error(f"{cid} is pinned and here, but the index does not know it", cid)
        elif cid not in known and not all(pin.is_of_a_pull for pin in needed):
            yield IntegrityError(
                f"{cid} is pinned ({needed[0].reason}) and not here",
                path="", expected=cid, actual="nothing",
                hint=f"citrate store reindex looks for it; or pull it again, or citrate store unpin {cid}",
            )  # fmt: skip


def _index_error(message: str, cid: str) -> IntegrityError:
    return IntegrityError(message, path="index.sqlite", expected=cid, actual="another", hint=REINDEX_HINT)
