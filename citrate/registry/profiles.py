"""Import profiles: how files and folders become blocks, when it is not citrate's own way.

Source: IPIP-499. ``unixfs-v1-2025`` is what citrate writes, and ``dag`` knows it by heart; ``citrate-tensor-v1`` is the
same with leaves that end where tensors do (``cutting``); ``unixfs-v0-2015`` is what
the network wrote for ten years (CIDs that begin with Qm), for whoever must meet a CID that stands elsewhere. Its leaves
wrap the bytes, so they are no slices of a plain file: such a DAG is kept as blocks.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from citrate.core.digests import listing_sha256
from citrate.core.errors import ConfigError
from citrate.core.records import Artifact, FileEntry
from citrate.core.sink import Progress
from citrate.registry import cid as cids
from citrate.registry import cutting, dag, dagpb, unixfs
from citrate.registry.cid import Cid
from citrate.registry.dagpb import Link

V0_2015 = "unixfs-v0-2015"
PROFILES = (*cutting.PLAIN_PROFILES, V0_2015)

_CHUNK_BYTES = 256 << 10
_WIDTH = 174
_SHARD_THRESHOLD_BYTES = 256 << 10
_CID_BYTES = 34

Emit = Callable[[Cid, bytes], None]
"""Takes each block as it is made, children before their parents."""


def check(profile: str) -> str:
    """Return ``profile`` if it is known.

    Raises:
        ConfigError: it is not.
    """
    if profile not in PROFILES:
        raise ConfigError(f"unknown profile {profile!r}", hint=f"profiles: {', '.join(PROFILES)}")
    return profile


@dataclass(frozen=True)
class _Part:
    """A subtree of a file: its CID, the file bytes under it, and the bytes of all its blocks."""

    cid: Cid
    size_bytes: int
    tsize: int


class V0Importer:
    """Makes DAGs of the profile ``unixfs-v0-2015``: CIDv0, wrapped leaves of 256 KiB, trees of 174 links, folders that
    become a HAMT when names and CIDs of their entries pass 256 KiB.

    Args:
        emit: takes the blocks, one at a time; None: only hash.
    """

    def __init__(self, emit: Emit | None = None) -> None:
        self._emit = emit
        self._turn = threading.Lock()

    def add(self, path: Path, progress: Progress | None = None) -> Artifact:
        """Import a file or a folder, several files side by side; what it may hold is what an artifact may hold.

        Raises:
            NotFoundError: nothing is there.
            FormatError: a symbolic link, an empty directory, a device, or an unsafe name.
            StoreError: it cannot be read, or changed meanwhile.
        """
        files, bare = unixfs.scan(path)
        counter = unixfs.Counter("add", sum(file.size_bytes for file in files), progress)
        found = unixfs.each(files, lambda file: self._file(file, counter), busy=lambda _: 1)
        entries = tuple(entry for entry, _ in found)
        if bare:
            return Artifact(entries[0].cid, entries[0].sha256, entries[0].size_bytes, entries, bare=True)
        root = self._folder([(entry.path.split("/"), part) for entry, part in found])
        size = sum(entry.size_bytes for entry in entries)
        return Artifact(str(root.cid), listing_sha256(entries), size, entries, bare=False)

    def _file(self, file: unixfs.SourceFile, counter: unixfs.Counter) -> tuple[FileEntry, _Part]:
        sha256 = hashlib.sha256()

        def pieces(stream: BinaryIO) -> Iterator[bytes]:
            while piece := stream.read(_CHUNK_BYTES):
                unixfs.go_on()
                sha256.update(piece)
                counter.add(len(piece))
                yield piece

        with os.fdopen(unixfs.open_regular(file.source), "rb") as stream:
            before = os.fstat(stream.fileno())
            try:
                part = self.stream(pieces(stream))
            except OSError as error:
                raise unixfs.unreadable(file.source, error) from error
            after = os.fstat(stream.fileno())
        if (before.st_mtime_ns, part.size_bytes) != (after.st_mtime_ns, after.st_size):
            raise unixfs.changed(file.source)
        return FileEntry(file.path, part.size_bytes, sha256.hexdigest(), str(part.cid)), part

    def stream(self, chunks: Iterator[bytes]) -> _Part:
        """Import a file that comes in chunks of 256 KiB, the last one shorter; memory holds no chunk but the newest."""
        level = [self._block(dagpb.encode([], dagpb.leaf_data(chunk)), len(chunk), 0) for chunk in chunks]
        level = level or [self._block(dagpb.encode([], dagpb.leaf_data(b"")), 0, 0)]
        while len(level) > 1:
            level = [self._parent(level[at : at + _WIDTH]) for at in range(0, len(level), _WIDTH)]
        return level[0]

    def _parent(self, below: list[_Part]) -> _Part:
        links = [Link(part.cid.binary, b"", part.tsize) for part in below]
        sizes = [part.size_bytes for part in below]
        block = dagpb.encode(links, dagpb.file_data(sizes))
        return self._block(block, sum(sizes), sum(part.tsize for part in below))

    def _block(self, block: bytes, size_bytes: int, below: int) -> _Part:
        cid = Cid.of(cids.DAG_PB, block, version=0)
        if self._emit is not None:
            with self._turn:
                self._emit(cid, block)
        return _Part(cid, size_bytes, len(block) + below)

    def _folder(self, files: list[tuple[list[str], _Part]]) -> _Part:
        parts = {path[0]: part for path, part in files if len(path) == 1}
        below: dict[str, list[tuple[list[str], _Part]]] = {}
        for path, part in files:
            if len(path) > 1:
                below.setdefault(path[0], []).append((path[1:], part))
        parts |= {name: self._folder(inside) for name, inside in below.items()}
        return self.directory([Link(part.cid.binary, name.encode(), part.tsize) for name, part in parts.items()])

    def directory(self, links: list[Link]) -> _Part:
        """Make a folder of these entries."""
        links = sorted(links, key=lambda link: link.name)
        tsize = sum(link.tsize for link in links)
        if sum(len(link.name) + _CID_BYTES for link in links) <= _SHARD_THRESHOLD_BYTES:
            return self._block(dagpb.encode(links, dagpb.directory_data()), 0, tsize)
        nodes: list[dag.InnerNode] = []
        hashed = [(dag.name_hash(link.name), link) for link in links]
        root = dag.shard(hashed, 0, nodes, lambda digest: Cid(0, cids.DAG_PB, cids.SHA2_256, digest).binary)
        if self._emit is not None:
            for node in nodes:
                self._emit(Cid(0, cids.DAG_PB, cids.SHA2_256, node.digest), node.block)
        return _Part(Cid.decode(root.cid), 0, root.tsize)
