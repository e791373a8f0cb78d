"""Fetch blocks and artifacts from sources that are not trusted, into the store, verified on arrival.

What is expected comes from a manifest: every file's path, size, SHA-256 and CID. From these the directory's whole tree
follows (``dag``), so of a directory nothing is fetched but its files, and of a file first its inner nodes, which name
the hash of every leaf. Then the bytes may come as one plain stream: each leaf is compared as it arrives.

Bytes go to ``partial/CID`` in the store. What stands there after an interruption, even ``kill -9``, is trusted for
nothing: it is hashed again, and the fetch goes on behind the last leaf that is right.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from citrate.core.digests import listing_sha256
from citrate.core.errors import FormatError, IntegrityError, StoreError
from citrate.core.records import Artifact, FileEntry
from citrate.core.sink import Progress
from citrate.registry import cid as cids
from citrate.registry import dag, dagpb, reader
from citrate.registry.attempts import Attempts, mismatch
from citrate.registry.cid import DAG_PB, DIGEST_BYTES, RAW
from citrate.registry.dag import CHUNK_BYTES
from citrate.registry.doublehash import DoubleHash, double_hash
from citrate.registry.sources import ByteStream, NoStreamError, Source, SourceError, StoreSource, UnansweredError, fill
from citrate.registry.store import Store
from citrate.registry.store.index import StagedFile
from citrate.registry.store.layout import disk_errors, prune, remove_tree
from citrate.registry.store.writer import DiskFile
from citrate.registry.stream import HashedFile, Stream

_FLAT_FILES_MAX = 256


@dataclass(frozen=True)
class Fetched:
    """A complete, verified artifact. ``source``: who gave the bytes, ``store`` if nothing had to be fetched.
    ``dropped``: sources that gave wrong bytes on the way."""

    path: Path
    source: str
    fetched_bytes: int
    dropped: tuple[str, ...] = ()


def fetch_block(cid: str, sources: Sequence[Source]) -> tuple[bytes, str]:
    """Fetch one block of at most 1 MiB; returns it and the name of its source.

    Raises:
        FormatError: no CID.
        IntegrityError: a source gave other bytes, and no other source had them.
        StoreError: no source has it; the message says why, source by source.
    """
    return Attempts(sources).block(cid, CHUNK_BYTES)


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
    attempts = Attempts([StoreSource(store), *sources])

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


def fetch_artifact(
    expected: Artifact, store: Store, sources: Sequence[Source], progress: Progress | None = None
) -> Fetched:
    """Fetch an artifact into the store, or continue to.

    Args:
        expected: what a manifest says; its parts are compared with each other before anything is fetched.
        store: takes the object. Blocks that it has already are not fetched.
        sources: asked in this order.
        progress: called with the stage ``fetch`` and bytes.

    An object that stands in the store but is damaged is mended: what is still right of it is kept, the rest fetched.

    Raises:
        FormatError: unsafe or contradictory paths.
        IntegrityError: parts of ``expected`` that do not fit together, or wrong bytes; nothing of it is kept.
        StoreError: no source has it (what has arrived is kept for the next attempt), or the store cannot take it.
    """
    check_consistent(expected)
    with disk_errors(store.root, expected.cid), store.layout.lock(f"{expected.cid}.partial"):
        damage = None
        if store.has(expected.cid):
            try:
                return Fetched(store.get(expected.cid), "store", 0)
            except IntegrityError as error:
                damage = error
        folder = store.layout.partial(expected.cid)
        fetch = _ArtifactFetch(expected, store, Attempts([StoreSource(store), *sources]), folder, progress)
        try:
            fetch.all_files()
        except IntegrityError:
            remove_tree(folder)
            raise
        except StoreError as error:
            prune(folder)
            raise damage or error from error
        except BaseException:
            prune(folder)
            raise
        if damage is not None:
            store.set_aside(expected.cid)
        return fetch.finish()


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
    codec, digest = cids.decode(file.cid)
    one_leaf = file.size_bytes <= CHUNK_BYTES
    if (codec == RAW) != one_leaf or (one_leaf and digest.hex() != file.sha256):
        raise mismatch(
            f"{file.path}: its CID, size and SHA-256 contradict each other",
            file.path,
            f"sha256 {file.sha256}, {file.size_bytes} bytes",
            file.cid,
        )


class _ArtifactFetch:
    """One artifact on its way into ``folder``."""

    def __init__(
        self, expected: Artifact, store: Store, attempts: Attempts, folder: Path, progress: Progress | None
    ) -> None:
        self._expected = expected
        self._store = store
        self._attempts = attempts
        self._folder = folder
        self._progress = progress
        self._staged: list[StagedFile] = []
        self._done_bytes = 0
        self._fetched_bytes = 0

    def all_files(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        wanted = {file.path for file in self._expected.files}
        for path in [path for path in self._folder.rglob("*") if not path.is_dir() or path.is_symlink()]:
            if str(path.relative_to(self._folder)) not in wanted:
                path.unlink()  # left by another manifest that names the same bytes otherwise
        for file in self._expected.files:
            self._staged.append(self._file(file))

    def finish(self) -> Fetched:
        """Hand the complete folder to the store."""
        files = tuple(staged.entry for staged in self._staged)
        try:
            self._store.adopt(self._folder, replace(self._expected, files=files), self._staged)
        except IntegrityError:
            remove_tree(self._folder)
            raise
        path = self._store.get(self._expected.cid)
        givers = ", ".join(self._attempts.givers) or "store"
        return Fetched(path, givers, self._fetched_bytes, tuple(self._attempts.lies))

    def _file(self, file: FileEntry) -> StagedFile:
        self._require_room(file)
        leaves = self._leaves(file)
        disk = DiskFile.reopen(self._store.root, self._folder / file.path)
        arrived = _Arrived(disk, file.size_bytes)
        try:
            self._done_bytes += arrived.recheck(leaves).size_bytes
            disk.preallocate(file.size_bytes)
            hashed = arrived.hashed
            if hashed.size_bytes < file.size_bytes:
                hashed, _ = self._attempts.attempt(file.cid, lambda source: self._rest(source, file, leaves, arrived))
            if file.sha256 and hashed.sha256 != file.sha256:
                raise mismatch(
                    f"{file.path}: the blocks are what its CID says, but their SHA-256 is another",
                    file.path, file.sha256, hashed.sha256,
                )  # fmt: skip
        except BaseException:
            disk.cut(arrived.hashed.size_bytes)
            disk.abandon()
            if arrived.hashed.size_bytes == 0:
                disk.path.unlink()
            raise
        self._report()
        return disk.seal(file.path, hashed)

    def _require_room(self, file: FileEntry) -> None:
        """Refuse what cannot fit before its inner nodes are fetched: a hostile size would make them endless."""
        path = self._folder / file.path
        missing = file.size_bytes - (path.stat().st_blocks * 512 if path.is_file() else 0)
        free = shutil.disk_usage(self._folder).free
        if missing > free:
            raise StoreError(
                f"no room in the store at {self._store.root}: {file.path} needs {missing} bytes, {free} are free",
                hint="free some space: citrate store gc",
                cid=self._expected.cid,
            )

    def _leaves(self, file: FileEntry) -> bytes:
        """The digests of the file's leaves, from its inner nodes, each verified and of the only shape allowed."""
        level = [(cids.decode(file.cid)[1], file.size_bytes)]
        for height in range(dag.file_height(file.size_bytes), 0, -1):
            below: list[tuple[bytes, int]] = []
            for digest, size_bytes in level:
                block, name = self._attempts.block(cids.encode(DAG_PB, digest), CHUNK_BYTES)
                if name != "store":
                    self._fetched_bytes += len(block)
                try:
                    below.extend(dag.file_children(block, size_bytes, height))
                except FormatError as error:
                    raise mismatch(
                        f"{file.path}: {error}", file.path, f"profile {dag.PROFILE}", cids.encode(DAG_PB, digest)
                    ) from error
            level = below
        return b"".join(digest for digest, _ in level)

    def _rest(self, source: Source, file: FileEntry, leaves: bytes, arrived: _Arrived) -> HashedFile:
        """Fetch what is still missing of a file from one source; a source that goes on giving may break off often."""
        while arrived.hashed.size_bytes < file.size_bytes:
            before, done_bytes = arrived.hashed.size_bytes, self._done_bytes
            try:
                self._continue(source, file, leaves, arrived)
            except UnansweredError:
                if arrived.hashed.size_bytes == before:
                    raise
            except IntegrityError as error:
                self._done_bytes = done_bytes - before + arrived.recheck(leaves).size_bytes
                raise IntegrityError(
                    error.message, path=file.path, expected=error.expected, actual=error.actual
                ) from error
        return arrived.hashed

    def _continue(self, source: Source, file: FileEntry, leaves: bytes, arrived: _Arrived) -> None:
        at = arrived.hashed.size_bytes
        incoming = self._open(source, file, leaves, at)
        stream = arrived.stream()
        try:
            while at < file.size_bytes:
                piece = memoryview(stream.slot())[: min(CHUNK_BYTES, file.size_bytes - at)]
                length = fill(incoming, piece)
                if length < len(piece):
                    raise UnansweredError(f"ended after {at + length} of {file.size_bytes} bytes")
                stream.push(length)
                at += length
                self._count(source, length)
        except (SourceError, KeyboardInterrupt):
            arrived.take(stream)  # what has come is right, and need not come again
            raise
        except BaseException:
            stream.abort()
            raise
        finally:
            incoming.close()
        arrived.take(stream)

    def _count(self, source: Source, length: int) -> None:
        self._done_bytes += length
        if source.name != "store":
            self._fetched_bytes += length
        self._report()

    def _report(self) -> None:
        if self._progress is not None:
            self._progress("fetch", self._done_bytes, self._expected.size_bytes)

    @staticmethod
    def _open(source: Source, file: FileEntry, leaves: bytes, offset: int) -> ByteStream:
        try:
            return source.stream(file.cid, offset, file.size_bytes, file.size_bytes)
        except NoStreamError:
            return _LeafByLeaf(source, leaves, offset)


class _LeafByLeaf:
    """A file's bytes from a source that gives single blocks only."""

    def __init__(self, source: Source, leaves: bytes, offset: int) -> None:
        self._source = source
        self._leaves = leaves
        self._at = offset // CHUNK_BYTES * DIGEST_BYTES
        self._rest = memoryview(b"")

    def readinto(self, buffer: memoryview) -> int:
        if not self._rest and self._at < len(self._leaves):
            digest = self._leaves[self._at : self._at + DIGEST_BYTES]
            self._rest = memoryview(self._source.block(cids.encode(RAW, digest)))
            self._at += DIGEST_BYTES
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        self._at = len(self._leaves)


class _Arrived:
    """The front of a file that is on disk and right: its hashes so far."""

    def __init__(self, disk: DiskFile, size_bytes: int) -> None:
        self._disk = disk
        self._size_bytes = size_bytes
        self._hashes = DoubleHash()
        self.hashed = HashedFile(0, self._hashes.hexdigest(), b"")

    def recheck(self, leaves: bytes) -> HashedFile:
        """Hash what stands on disk, up to the first leaf that differs; what follows is cut off."""
        self._hashes = double_hash(self._size_bytes, leaves)
        length = 0
        self._disk.seek(0)
        while len(self._hashes.leaves) < len(leaves):
            at = len(self._hashes.leaves)
            leaf = bytearray(self._disk.read(min(CHUNK_BYTES, self._size_bytes - length)))
            if hashlib.sha256(leaf).digest() != leaves[at : at + DIGEST_BYTES]:
                break
            self._hashes.update(memoryview(leaf))
            length += len(leaf)
        self.hashed = HashedFile(length, self._hashes.hexdigest(), bytes(self._hashes.leaves))
        self._disk.cut(length)
        return self.hashed

    def stream(self) -> Stream:
        """A stream that continues the file, comparing each leaf."""
        self._disk.seek(self.hashed.size_bytes)
        return Stream(write=self._disk.write, hashes=self._hashes, slot_bytes=CHUNK_BYTES)

    def take(self, stream: Stream) -> None:
        """Wait for what was pushed; all of it is right, or this raises IntegrityError."""
        self.hashed = stream.finish()
