"""Whether a DAG is what citrate itself would have written for plain files, so that it can be kept as such.

Only then do files written out again give the same CID, and only then may the blocks be dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from citrate.core.digests import check_path
from citrate.core.errors import FormatError, NotFoundError
from citrate.core.records import FileEntry
from citrate.registry import cid as cids
from citrate.registry import dag, reader
from citrate.registry.cid import Cid
from citrate.registry.paths import Entity, Read, find

_UNFOLD_MAX = 2
"""A few blocks can name the same bytes over and over: more than this times the blocks' own bytes is not written out."""
_FILES_PER_BLOCK_MAX = 4
_FILES_ROOM = 4096
_BYTES_ROOM = 1 << 16


@dataclass(frozen=True)
class Plain:
    """The files of a DAG; ``bare``: it is one file without a name."""

    files: tuple[FileEntry, ...]
    bare: bool


def plain(read: Read, root: Cid, blocks: int, size_bytes: int) -> Plain | None:
    """The files that make up exactly this DAG in citrate's profile; None if it is another kind of DAG.

    Args:
        read: a verified block by its CID.
        root: the DAG's root.
        blocks: how many blocks it has.
        size_bytes: the bytes of its blocks.
    """
    if root.version != 1 or root.codec not in (cids.RAW, cids.DAG_PB) or root.hash_code != cids.SHA2_256:
        return None
    search = _Search(read, _FILES_PER_BLOCK_MAX * blocks + _FILES_ROOM, _UNFOLD_MAX * size_bytes + _BYTES_ROOM)
    try:
        if find(read, str(root)).is_directory:
            files = tuple(search.folder(root, ""))
            return Plain(files, bare=False) if files and dag.directory(files).root.cid == str(root) else None
        return Plain((search.file(root, str(root)),), bare=True)
    except (FormatError, NotFoundError):
        return None


class _Search:
    """Collects files until a bound is passed."""

    def __init__(self, read: Read, files_left: int, bytes_left: int) -> None:
        self._read = read
        self._files_left = files_left
        self._bytes_left = bytes_left

    def folder(self, cid: Cid, prefix: str) -> Iterator[FileEntry]:
        if prefix.count("/") > dag.DEPTH_MAX:
            raise FormatError("too deep")
        entries = reader.entries(self._read, str(cid))
        if not entries:
            raise FormatError("an empty folder")
        for entry in entries:
            path, below = check_path(prefix + entry.name), Cid.parse(entry.cid)
            if find(self._read, entry.cid).is_directory:
                yield from self.folder(below, path + "/")
            else:
                yield self.file(below, path)

    def file(self, cid: Cid, path: str) -> FileEntry:
        found = find(self._read, str(cid))
        self._files_left -= 1
        self._bytes_left -= found.size_bytes
        if found.entity is not Entity.FILE or self._files_left < 0 or self._bytes_left < 0:
            raise FormatError("no file, or too much of it")
        codec, digest = cids.decode(str(cid))
        self._check(codec, digest, found.size_bytes, dag.file_height(found.size_bytes))
        return FileEntry(path, found.size_bytes, "0" * 64, str(cid))

    def _check(self, codec: int, digest: bytes, size_bytes: int, height: int) -> None:
        if (codec == cids.RAW) != (height == 0):
            raise FormatError("another shape")
        if height:
            for below, size in dag.file_children(self._read(cids.encode(codec, digest)), size_bytes, height):
                self._check(cids.DAG_PB if height > 1 else cids.RAW, below, size, height - 1)
