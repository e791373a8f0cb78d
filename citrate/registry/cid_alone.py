"""The CID alone, as ``ipfs add -n`` tells it: no SHA-256 of whole files, so a file's leaves need not come in order.

All cores hash leaves of the same file, each of them two at a time where ``paired`` can: several times as fast as
``unixfs.address``, where no second core can help with one file. Nothing but the CID can be checked with the result.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from citrate.core.records import FileEntry
from citrate.core.sink import Progress
from citrate.registry import dag, paired, unixfs
from citrate.registry.dag import CHUNK_BYTES
from citrate.registry.stream import HashedFile
from citrate.registry.unixfs import SourceFile

_SPAN_LEAVES = 8
_PAIRED_FROM_BYTES = 256 << 20
"""Loading and compiling the loops takes as long as hashing this much on one core."""


@dataclass(frozen=True)
class Named:
    """A file or directory of which only the CID was asked."""

    cid: str
    size_bytes: int
    files: int


def cid_of(path: Path, *, threads: int | None = None, progress: Progress | None = None) -> Named:
    """Compute the CID of a file or directory in the profile ``unixfs-v1-2025``.

    Args:
        path: as for ``unixfs.address``.
        threads: how many cores to use; all of this process by default.
        progress: called with the stage ``hash`` and bytes.

    Raises:
        NotFoundError: nothing is there.
        FormatError: a symbolic link, an empty directory, a device, or an unsafe name.
        StoreError: it cannot be read, or changed meanwhile.
    """
    files, bare = unixfs.scan(path)
    size_bytes = sum(file.size_bytes for file in files)
    count = unixfs.Counter("hash", size_bytes, progress).add
    hashing = _Hashing(paired.kernel() if size_bytes >= _PAIRED_FROM_BYTES else None, count)
    span_bytes = _SPAN_LEAVES * CHUNK_BYTES
    cids = {}
    small = [file for file in files if file.size_bytes <= span_bytes]
    for file, hashed in zip(small, unixfs.each(small, hashing.file, threads), strict=True):
        cids[file.path] = hashed.dag().cid
    with ThreadPoolExecutor(max_workers=threads or unixfs.available_cores()) as pool:
        for file in files:
            if file.size_bytes > span_bytes:
                leaves = hashing.spans(file, pool)
                cids[file.path] = HashedFile(file.size_bytes, "", leaves).dag().cid
    entries = [FileEntry(file.path, file.size_bytes, "", cids[file.path]) for file in files]
    return Named(entries[0].cid if bare else dag.directory(entries).root.cid, size_bytes, len(files))


class _Hashing:
    """Hashes leaves; every thread has a buffer of its own."""

    def __init__(self, kernel: paired.Kernel | None, count: Callable[[int], None]) -> None:
        self._kernel = kernel
        self._count = count
        self._local = threading.local()

    def file(self, file: SourceFile) -> HashedFile:
        """A file on this thread."""
        if file.size_bytes <= CHUNK_BYTES:
            return unixfs.hash_file(file.source, progress=self._count)
        with _Unchanged(file) as descriptor:
            return HashedFile(file.size_bytes, "", self._span(file, descriptor, 0))

    def spans(self, file: SourceFile, pool: ThreadPoolExecutor) -> bytes:
        """The leaves of a large file, by all threads of ``pool``."""
        with _Unchanged(file) as descriptor:
            offsets = range(0, file.size_bytes, _SPAN_LEAVES * CHUNK_BYTES)
            return b"".join(pool.map(lambda offset: self._span(file, descriptor, offset), offsets))

    def _span(self, file: SourceFile, descriptor: int, offset: int) -> bytes:
        digests = bytearray()
        end = min(offset + _SPAN_LEAVES * CHUNK_BYTES, file.size_bytes)
        for at in range(offset, end, 2 * CHUNK_BYTES):
            piece = self._read(file, descriptor, at, min(2 * CHUNK_BYTES, end - at))
            digests += self._leaves(piece)
            self._count(len(piece))
        return bytes(digests)

    def _read(self, file: SourceFile, descriptor: int, offset: int, length: int) -> memoryview:
        if not hasattr(self._local, "buffer"):
            self._local.buffer = bytearray(2 * CHUNK_BYTES)
        piece = memoryview(self._local.buffer)[:length]
        done = 0
        while done < length:
            try:
                count = os.preadv(descriptor, [piece[done:]], offset + done)
            except OSError as error:
                raise unixfs.unreadable(file.source, error) from error
            if count == 0:
                raise unixfs.changed(file.source)
            done += count
        return piece

    def _leaves(self, piece: memoryview) -> bytes:
        if self._kernel is not None and len(piece) == 2 * CHUNK_BYTES:
            return _two_leaves(self._kernel, piece)
        starts = range(0, len(piece), CHUNK_BYTES)
        return b"".join(hashlib.sha256(piece[at : at + CHUNK_BYTES]).digest() for at in starts)


def _two_leaves(kernel: paired.Kernel, piece: memoryview) -> bytes:
    """The digests of two full leaves that lie one behind the other, hashed side by side."""
    states = ctypes.create_string_buffer(paired.start_state() * 2, 2 * paired.STATE_BYTES)
    place, data = ctypes.addressof(states), (ctypes.c_char * len(piece)).from_buffer(piece)
    first, blocks = ctypes.addressof(data), CHUNK_BYTES // paired.BLOCK_BYTES
    kernel.apart(place, first, first + CHUNK_BYTES, blocks)
    last = ctypes.create_string_buffer(_PADDING, len(_PADDING))
    kernel.apart(place, ctypes.addressof(last), ctypes.addressof(last), len(_PADDING) // paired.BLOCK_BYTES)
    return b"".join(paired.digest_of(states.raw[at : at + paired.STATE_BYTES]) for at in (0, paired.STATE_BYTES))


_PADDING = paired.padded(b"", CHUNK_BYTES)


class _Unchanged:
    """A file open for reading; leaving the block without an error checks that nobody wrote to it meanwhile."""

    def __init__(self, file: SourceFile) -> None:
        self._file = file

    def __enter__(self) -> int:
        self._descriptor = unixfs.open_regular(self._file.source)
        self._before = os.fstat(self._descriptor)
        return self._descriptor

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        after = os.fstat(self._descriptor)
        os.close(self._descriptor)
        if kind is None and (self._before.st_mtime_ns, self._file.size_bytes) != (after.st_mtime_ns, after.st_size):
            raise unixfs.changed(self._file.source)
