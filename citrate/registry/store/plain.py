"""Whether a DAG is what citrate itself would have written for plain files, so that it can be kept as such.

Only then do files written out again give the same CID, and only then may the blocks be dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from citrate.core.digests import check_path
from citrate.core.errors import FormatError, NotFoundError
from citrate.core.records import FileEntry
from citrate.registry import cid as cids
from citrate.registry import dag, dagpb, reader
from citrate.registry.cid import Cid
from citrate.registry.cut_dag import read_leaves
from citrate.registry.cutting import tensor_ends
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
    """The files that make up exactly this DAG in one of citrate's profiles; None if it is another kind of DAG.

    A file that was cut at its tensors has its ``tsize`` set.

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
        entry = FileEntry(path, found.size_bytes, "0" * 64, str(cid))
        return entry if self._is_usual(entry) else self._cut(entry)

    def _is_usual(self, entry: FileEntry) -> bool:
        """Whether the file has the leaves that its size says."""
        if (cids.decode(entry.cid)[0] == cids.RAW) != (dag.file_height(entry.size_bytes) == 0):
            return False
        try:
            read_leaves(self._read, entry)
        except FormatError:
            return False
        return True

    def _cut(self, entry: FileEntry) -> FileEntry:
        """The file with the leaves that its tensors say."""
        root = self._read(entry.cid)
        entry = replace(entry, tsize=len(root) + sum(link.tsize for link in dagpb.decode(root).links))
        leaves = read_leaves(self._read, entry)
        if leaves.ends != tensor_ends(reader.content(self._read, entry.cid), entry.size_bytes):
            raise FormatError("cut otherwise")
        return entry
