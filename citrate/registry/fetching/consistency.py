"""Whether the parts of what is expected fit together, before anything is fetched."""

from __future__ import annotations

import hashlib

from citrate.core.digests import listing_sha256
from citrate.core.errors import FormatError
from citrate.core.records import Artifact, FileEntry
from citrate.registry import cid as cids
from citrate.registry import cut_dag, dag
from citrate.registry.attempts import mismatch

_EMPTY = hashlib.sha256().digest()


def check_consistent(expected: Artifact) -> None:
    """Compare an artifact's CID, digest and size with those of its files.

    Raises:
        FormatError: unsafe or contradictory paths.
        IntegrityError: they do not fit together.
    """
    if expected.bare:
        if len(expected.files) != 1:
            raise FormatError(f"bare artifact {expected.cid} lists {len(expected.files)} files, not one")
        only = expected.files[0]
        dag.directory(expected.files)  # its path
        actual = (only.cid, only.sha256, only.size_bytes)
    else:
        files = expected.files
        size = sum(file.size_bytes for file in files)
        whole = all(file.sha256 for file in files)  # else it is compared when the bytes are here: `Store.adopt`
        actual = (dag.directory(files).root.cid, listing_sha256(files) if whole else expected.sha256, size)
    for name, wanted, found in zip(
        ("cid", "sha256", "size_bytes"), (expected.cid, expected.sha256, expected.size_bytes), actual, strict=True
    ):
        if wanted != found:
            raise mismatch(f"{expected.cid}: its files' {name} is another", "artifact", str(wanted), str(found))
    for file in expected.files:
        _check_entry(file)


def _check_entry(file: FileEntry) -> None:
    empty = file.size_bytes == 0
    if not cut_dag.is_possible(file) or empty != (cids.decode(file.cid)[1] == _EMPTY):
        raise mismatch(
            f"{file.path}: its CID, size and SHA-256 contradict each other",
            file.path,
            f"sha256 {file.sha256}, {file.size_bytes} bytes",
            file.cid,
        )
