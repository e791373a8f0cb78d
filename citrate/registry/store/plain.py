"""Whether a DAG is what citrate itself would have written for plain files, so that it can be kept as such.

Only then do files written out again give the same CID, and only then may the blocks be dropped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from citrate.core.digests import check_path
from citrate.core.errors import FormatError, NotFoundError
from citrate.core.records import FileEntry
from citrate.registry import cid as cids
from citrate.registry import dag, dagpb, reader
from citrate.registry.cid import Cid
from citrate.registry.cut_dag import read_leaves
from citrate.registry.leaves import Leaves
from citrate.registry.paths import Entity, Read, find
from citrate.registry.store.cuts import cut_otherwise

_UNFOLD_MAX = 2
"""A few blocks can name the same bytes over and over: more than this times the blocks' own bytes is not written out."""
_FILES_PER_BLOCK_MAX = 4
_FILES_ROOM = 4096
_BYTES_ROOM = 1 << 16
_NAME_MAX_BYTES = 255
_PATH_MAX_BYTES = 3072
"""What file systems take is 255 bytes a name and 4096 a path, the store's own folders included."""


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
        bare = not find(read, str(root)).is_directory
        files = (search.file(root, str(root)),) if bare else tuple(search.folder(root, ""))
        if not bare and (not files or dag.directory(files).root.cid != str(root)):
            return None
        wrong = cut_otherwise(search.found, lambda entry: reader.content(read, entry.cid))
        return None if wrong else Plain(files, bare)
    except (FormatError, NotFoundError):
        return None


class _Search:
    """Collects files until a bound is passed."""

    def __init__(self, read: Read, files_left: int, bytes_left: int) -> None:
        self._read = read
        self._files_left = files_left
        self._bytes_left = bytes_left
        self.found: list[tuple[FileEntry, Leaves]] = []

    def folder(self, cid: Cid, prefix: str) -> Iterator[FileEntry]:
        if prefix.count("/") > dag.DEPTH_MAX:
            raise FormatError("too deep")
        entries = reader.entries(self._read, str(cid))
        if not entries:
            raise FormatError("an empty folder")
        for entry in entries:
            path, below = check_path(prefix + entry.name), Cid.parse(entry.cid)
            if len(entry.name.encode()) > _NAME_MAX_BYTES or len(path.encode()) > _PATH_MAX_BYTES:
                raise FormatError("no file can have this name")
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
        self.found.append(self._with_leaves(entry))
        return self.found[-1][0]

    def _with_leaves(self, entry: FileEntry) -> tuple[FileEntry, Leaves]:
        """The file with the leaves that its size says or, with its ``tsize``, with others."""
        usual = (cids.decode(entry.cid)[0] == cids.RAW) == (dag.file_height(entry.size_bytes) == 0)
        with contextlib.suppress(FormatError):
            if usual:
                return entry, read_leaves(self._read, entry)
        root = self._read(entry.cid)
        cut = replace(entry, tsize=len(root) + sum(link.tsize for link in dagpb.decode(root).links))
        return cut, read_leaves(self._read, cut)
