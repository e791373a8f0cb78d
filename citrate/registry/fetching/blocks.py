"""Single blocks, and what follows from them: the files of a folder, the leaves of files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

from citrate.core.errors import FormatError, IntegrityError, StoreError
from citrate.core.records import Artifact, FileEntry
from citrate.registry import cid as cids
from citrate.registry import cut_dag, dag, dagpb, reader
from citrate.registry.attempts import Attempts, mismatch
from citrate.registry.cid import RAW
from citrate.registry.dag import CHUNK_BYTES
from citrate.registry.leaves import Leaves
from citrate.registry.sources import Source, StoreSource
from citrate.registry.store import Store

_FLAT_FILES_MAX = 256
_SIDE_BY_SIDE = 4


def fetch_block(cid: str, sources: Sequence[Source]) -> tuple[bytes, str]:
    """Fetch one block of at most 1 MiB; returns it and the name of its source.

    Raises:
        FormatError: no CID.
        IntegrityError: a source gave other bytes, and no other source had them.
        StoreError: no source has it; the message says why, source by source.
    """
    with closing(Attempts.of(sources)) as attempts:
        return attempts.block(cid, CHUNK_BYTES)


def find_block(cid: str, store: Store, sources: Sequence[Source]) -> bytes:
    """One block of at most 1 MiB: the store's, or that of the first source that has it. Where it is an object of the
    store and damaged there, what comes takes its place.

    Raises:
        FormatError: no CID.
        IntegrityError: it is damaged here, and no source has it; or as ``fetch_block``.
        StoreError: it is neither here nor with a source.
    """
    damage = None
    if store.has(cid):
        try:
            return store.block(cid)
        except IntegrityError as error:
            damage = error
    try:
        data, _ = fetch_block(cid, sources)
    except StoreError as error:
        raise damage or error from error
    if damage is not None:
        store.set_aside(cid)
        store.put_block(data)
    return data


def read_folder(cid: str, sha256: str, size_bytes: int, store: Store, sources: Sequence[Source]) -> Artifact:
    """The files of a flat folder of which nothing is known but its address: its own blocks name them.

    Args:
        cid: the folder's.
        sha256: SHA-256 of the listing of its files.
        size_bytes: the sum of their sizes.
        store: asked first.
        sources: asked in this order.

    Returns:
        What ``fetch_artifact`` takes. The SHA-256 of a file of several blocks is not known yet, and empty; that of the
        whole listing is compared when the bytes are here.

    Raises:
        FormatError: no folder of files, or more of them than a flat folder has.
        IntegrityError: a source gave other blocks, and no other source had them.
        StoreError: no source has it.
    """
    with closing(Attempts.of([StoreSource(store), *sources])) as attempts:

        def read(wanted: str) -> bytes:
            return attempts.block(wanted, CHUNK_BYTES)[0]

        found = reader.entries(read, cid)
        if not 0 < len(found) <= _FLAT_FILES_MAX:
            raise FormatError(f"the folder {cid} has {len(found)} files, and may have {_FLAT_FILES_MAX}")
        return Artifact(cid, sha256, size_bytes, tuple(_file_of(read, entry) for entry in found), bare=False)


def _file_of(read: Callable[[str], bytes], entry: reader.Entry) -> FileEntry:
    codec, digest = cids.decode(entry.cid)
    if codec == RAW:
        return FileEntry(entry.name, entry.tsize, digest.hex(), entry.cid)
    record = dagpb.decode_unixfs(dagpb.decode(read(entry.cid)).data)
    if record.kind != dagpb.Kind.FILE:
        raise FormatError(f"{entry.name!r} is no file: a flat folder was expected")
    return FileEntry(entry.name, record.size_bytes, "", entry.cid)


def read_leaves(files: Sequence[FileEntry], attempts: Attempts, fetched: Callable[[int], None]) -> list[Leaves]:
    """The leaves of each file, from its inner nodes; of several files side by side.

    Args:
        files: whose CIDs and sizes fit together.
        attempts: the sources.
        fetched: told of the bytes of each block that came from elsewhere than the store.

    Raises:
        IntegrityError: a block is not what its CID says, and no source had a right one; or the blocks are no tree of
            a file that citrate writes.
        StoreError: no source has it.
    """
    own, opened = threading.local(), ExitStack()

    def leaves_of(file: FileEntry) -> Leaves:
        codec, digest = cids.decode(file.cid)
        if codec == RAW:
            return Leaves(file.size_bytes, digest)
        if not hasattr(own, "attempts"):
            own.attempts = opened.enter_context(closing(attempts.for_another_thread()))
        return _leaves(file, own.attempts, fetched)

    trees = sum(cids.decode(file.cid)[0] != RAW for file in files)
    if trees <= 1:
        own.attempts = attempts
        return [leaves_of(file) for file in files]
    with ThreadPoolExecutor(min(_SIDE_BY_SIDE, trees)) as pool, opened:  # who is interrupted waits for nobody
        return list(pool.map(leaves_of, files))


def _leaves(file: FileEntry, attempts: Attempts, fetched: Callable[[int], None]) -> Leaves:
    def read(cid: str) -> bytes:
        block, name = attempts.block(cid, CHUNK_BYTES)
        if name != "store":
            fetched(len(block))
        return block

    try:
        return cut_dag.read_leaves(read, file)
    except FormatError as error:
        raise mismatch(f"{file.path}: {error}", file.path, f"profile {dag.PROFILE}", file.cid) from error
