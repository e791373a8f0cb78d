"""Writing DAGs as blocks: each block once, nothing visible until every block that a root leads to is durable."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from citrate.core.errors import FormatError, NotFoundError
from citrate.registry import ipld
from citrate.registry.atomic import make_folder, sync_directory
from citrate.registry.cid import CODECS, Cid
from citrate.registry.dagpb import BLOCK_MAX_BYTES
from citrate.registry.pieces import WRITE_BYTES, in_pieces
from citrate.registry.store.arrivals import Arrivals, is_empty
from citrate.registry.store.dags import DagShelf, NewDag
from citrate.registry.store.layout import Layout, disk_errors, remove_tree
from citrate.registry.store.writer import FILE_MODE

_PLACED = "placed"
"""Beside what has arrived: the name under which the pack was put in place, before it is recorded there."""
_PACK_NAME = re.compile("[0-9a-f]{32}")
_SCRATCH = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE blocks(
    hash BLOB PRIMARY KEY, offset INTEGER, length INTEGER, codec INTEGER, has_links INTEGER) WITHOUT ROWID;
CREATE TABLE reached(number INTEGER, hash BLOB, codec INTEGER, PRIMARY KEY(number, hash, codec)) WITHOUT ROWID;
BEGIN;
"""


@dataclass(frozen=True)
class _Place:
    """Where a block lies in the pack, the codec it came with, and whether it links to others under that codec."""

    offset: int
    length: int
    codec: int
    has_links: bool


class DagWriter:
    """Takes blocks in any order. Use it in a ``with`` block; leaving it without ``commit`` discards everything.

    What is known of the blocks lies in a scratch database beside them, so that memory stays flat however many come.

    Args:
        layout: the store's.
        shelf: where the DAGs will be recorded.
        elsewhere: a verified block that the store has already, or that can be fetched.
        resumes: a name under which what has arrived is kept when the block is left without ``commit``, and found again
            by the next writer of that name; empty: everything is discarded.
    """

    def __init__(
        self, layout: Layout, shelf: DagShelf, elsewhere: Callable[[str], bytes], *, resumes: str = ""
    ) -> None:
        self._layout = layout
        self._shelf = shelf
        self._elsewhere = elsewhere
        self._resumes = resumes
        self._arrivals: Arrivals | None = None
        self._staging = contextlib.ExitStack()
        self._folder = Path()
        self._pack: BinaryIO
        self._scratch: sqlite3.Connection
        self._size_bytes = 0

    def __enter__(self) -> DagWriter:
        with disk_errors(self._layout.root):
            try:
                self._open()
            except BaseException:
                self._staging.close()
                raise
        return self

    def _open(self) -> None:
        if self._resumes:
            self._staging.enter_context(self._layout.lock_partial(self._resumes))
            self._folder = self._layout.partial(self._resumes)
            self._folder.mkdir(parents=True, exist_ok=True)
            self._staging.callback(self._leave)
            self._take_back()
        else:
            self._folder = self._staging.enter_context(self._layout.staging())
        path = self._folder / "pack"
        path.touch()
        path.chmod(0o644)  # a writer that was killed may have sealed it
        self._pack = self._staging.enter_context(path.open("r+b", buffering=WRITE_BYTES))
        (self._folder / "scratch.sqlite").unlink(missing_ok=True)
        # files of one object are imported side by side: whoever puts blocks takes turns (``profiles``)
        self._scratch = sqlite3.connect(self._folder / "scratch.sqlite", isolation_level=None, check_same_thread=False)
        self._staging.callback(self._scratch.close)
        self._scratch.executescript(_SCRATCH)
        if self._resumes:
            arrivals = Arrivals(self._folder, self._pack)
            self._staging.callback(arrivals.close)
            for cid, block in arrivals.replay():
                self._insert(cid, block)
            self._arrivals = arrivals

    def _take_back(self) -> None:
        """Go on with a pack that was put in place and not recorded."""
        note = self._folder / _PLACED
        name = note.read_text(errors="replace") if note.exists() else ""
        if _PACK_NAME.fullmatch(name):  # a power cut may have left anything
            self._shelf.take_back(name, self._folder / "pack")
        note.unlink(missing_ok=True)

    def _leave(self) -> None:
        """Keep what has arrived for the next writer of this name, if anything has."""
        self._take_back()
        (self._folder / "scratch.sqlite").unlink(missing_ok=True)
        if is_empty(self._folder) or not (self._folder / "pack").exists():
            remove_tree(self._folder)

    @property
    def size_bytes(self) -> int:
        """Bytes of the blocks that are here, those of earlier attempts included."""
        return self._size_bytes

    def forget(self) -> None:
        """Keep nothing for a next writer: what had arrived stands elsewhere now."""
        if self._arrivals is not None:
            self._arrivals.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with disk_errors(self._layout.root):
            self._staging.close()

    def put(self, cid: Cid, block: bytes) -> None:
        """Take a block that was compared with its CID; one that is its own CID is not kept.

        Raises:
            FormatError: too large, malformed, or of a codec whose links are not known here.
            StoreError: no room, or the disk failed.
        """
        if len(block) > BLOCK_MAX_BYTES:
            raise FormatError(f"block {cid} has {len(block)} bytes; IPFS moves up to {BLOCK_MAX_BYTES}")
        if self._insert(cid, block):
            with disk_errors(self._layout.root):
                for piece in in_pieces(block):
                    self._pack.write(piece)
                if self._arrivals is not None:
                    self._arrivals.note(cid, len(block))

    def _insert(self, cid: Cid, block: bytes) -> bool:
        """Note where a block stands, or will; False if it needs no place, or has one."""
        has_links = bool(ipld.links(cid, block))
        if cid.is_identity:
            return False
        with disk_errors(self._layout.root):
            new = self._scratch.execute(
                "INSERT OR IGNORE INTO blocks VALUES(?, ?, ?, ?, ?)",
                (cid.multihash, self._size_bytes, len(block), cid.codec, has_links),
            ).rowcount
            if new:
                self._size_bytes += len(block)
            return bool(new)

    def block(self, cid: str) -> bytes:
        """A block that was put here, or that the store has.

        Raises:
            NotFoundError: neither.
        """
        wanted = Cid.parse(cid)
        place = self._place(wanted)
        return self._elsewhere(cid) if place is None or wanted.is_identity else self._read(place)

    def _place(self, cid: Cid) -> _Place | None:
        row = self._scratch.execute(
            "SELECT offset, length, codec, has_links FROM blocks WHERE hash = ?", (cid.multihash,)
        ).fetchone()
        return _Place(row[0], row[1], row[2], bool(row[3])) if row else None

    def _read(self, place: _Place) -> bytes:
        with disk_errors(self._layout.root):
            self._pack.flush()
            return os.pread(self._pack.fileno(), place.length, place.offset)

    def gather(self, number: int, root: Cid, *, partial: bool) -> NewDag:
        """Find every block that ``root`` leads to, taking from the store what did not come.

        Args:
            number: the root's, to name it in ``commit``.
            root: the DAG's root.
            partial: whether blocks may be missing, except for the root's own.

        Raises:
            FormatError: a block is missing or malformed, or of a codec whose links are not known here.
        """
        whole, ahead = True, [root]
        with disk_errors(self._layout.root):
            while ahead:
                cid = ahead.pop()
                following = self._follow(number, cid)
                if following is None:
                    whole = False
                    self._missing(cid, root, partial)
                ahead.extend(reversed(following or []))
            count, size = self._scratch.execute(
                "SELECT count(*), coalesce(sum(length), 0) FROM blocks "
                "WHERE hash IN (SELECT hash FROM reached WHERE number = ?)",
                (number,),
            ).fetchone()
        return NewDag(number, str(root), size, count, whole)

    def _follow(self, number: int, cid: Cid) -> list[Cid] | None:
        """Count a block to a DAG and say what it links to, the first time it is met; None if it is nowhere."""
        if cid.is_identity:
            return ipld.links(cid, cid.digest)
        if cid.codec not in CODECS:
            raise FormatError(f"{cid} has codec 0x{cid.codec:x}, whose links are not known here")
        if not self._mark(number, cid):
            return []
        place = self._place(cid) or self._fetch(cid)
        if place is None:
            return None
        if place.has_links or place.codec != cid.codec:
            return ipld.links(cid, self._read(place))
        return []

    def _mark(self, number: int, cid: Cid) -> bool:
        row = (number, cid.multihash, cid.codec)
        return bool(self._scratch.execute("INSERT OR IGNORE INTO reached VALUES(?, ?, ?)", row).rowcount)

    def _fetch(self, cid: Cid) -> _Place | None:
        try:
            self.put(cid, self._elsewhere(str(cid)))
        except NotFoundError:
            return None
        return self._place(cid)

    @staticmethod
    def _missing(cid: Cid, root: Cid, partial: bool) -> None:
        if not partial or cid == root:
            raise FormatError(
                f"the CAR is not whole: block {cid} under {root} is neither in it nor in the store",
                hint="fetch it again, or keep what there is: --partial",
            )

    def commit(self, dags: Iterable[NewDag], reason: str) -> None:
        """Make gathered DAGs visible, pinned for ``reason`` in the same step.

        Raises:
            StoreError: no room, no permission, or the disk failed.
        """
        name = uuid.uuid4().hex
        with disk_errors(self._layout.root):
            self._scratch.execute("COMMIT")
            self._pack.flush()
            os.fchmod(self._pack.fileno(), FILE_MODE)
            os.fsync(self._pack.fileno())
            if self._arrivals is not None:
                self._arrivals.flush()
                (self._folder / _PLACED).write_text(name)
            target = self._layout.pack(name)
            with self._layout.lock("packs"):
                make_folder(target.parent)
                (self._folder / "pack").rename(target)
                sync_directory(target.parent)
                self._shelf.insert(name, list(dags), self._folder / "scratch.sqlite", reason)
        self._shelf.sweep()
