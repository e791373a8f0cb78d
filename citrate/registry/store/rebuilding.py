"""An index that is damaged or lost is built anew: objects are named by what is in them, so hashing them tells all.

The new index is complete before it takes the old one's place, which goes to ``damaged/``. Pins come from their own
files, what lies in packs from the lists beside them, and both from the old index, as far as it can be read. What is
not what its name says goes to ``damaged/``: nothing is deleted.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from citrate.core.errors import CitrateError, FormatError
from citrate.core.records import Artifact
from citrate.core.sink import Progress
from citrate.registry import ipld, unixfs
from citrate.registry.atomic import sync_directory
from citrate.registry.cid import Cid
from citrate.registry.cutting import PLAIN_PROFILES
from citrate.registry.dag import directory
from citrate.registry.store import exclusion, pack_lists
from citrate.registry.store.dags import FORGET_PACKS, DagShelf, read_piece
from citrate.registry.store.index import Index, Receipt, StagedFile
from citrate.registry.store.layout import Layout, disk_errors
from citrate.registry.store.pack_lists import PackList, Row
from citrate.registry.store.pins import Pin, Pins

_NEW = "index.new.sqlite"
_Places: TypeAlias = dict[bytes, list[tuple[int, int]]]
"""By multihash, where a block may begin in its pack, and its length."""


@dataclass(frozen=True)
class Rebuilt:
    """What stands after it. ``lost``: CIDs, and packs whose roots nobody knows, that were set aside."""

    objects: int
    pins: int
    lost: tuple[str, ...]


def rebuild(layout: Layout, progress: Progress | None = None) -> Rebuilt:
    """Build the index of a store anew; every byte of every object is read and hashed.

    Whoever changes the store waits meanwhile; readers go on with the old index.

    Args:
        layout: the store's.
        progress: called with the stage ``reindex`` and bytes.

    Raises:
        StoreError: the disk failed, or the store may not be written; the old index stands unchanged.
    """
    with disk_errors(layout.root):
        if not layout.root.exists():
            return Rebuilt(0, 0, ())
        new = layout.root / _NEW
        with exclusion.rebuilding(layout.root):
            _remove_database(new)
            try:
                done = _build(layout, Index(new), progress)
                _replace(layout, new)
            finally:
                _remove_database(new)
        return done


def _build(layout: Layout, index: Index, progress: Progress | None) -> Rebuilt:
    pins = Pins(layout, index)
    index.create(anew=True)
    lost = _take_files(layout, index, progress)
    old = _old_packs(layout)
    for name in layout.packs():
        known = pack_lists.read(layout.list_of(name)) | old.get(name, PackList(frozenset(), frozenset()))
        lost += _take_pack(layout, index, name, known)
    shelf = DagShelf(layout, index, pins)
    for name in sorted(shelf.known_packs()):
        shelf.renew_list(name)
    noted = [(cid, pin) for cid, of_one in pins.noted().items() for pin in of_one]
    with index.writing() as connection:
        for cid, pin in [*noted, *_old_pins(layout)]:
            pins.insert(connection, cid, pin.reason, pin.since_s)
    for cid in pins.all():
        pins.note(cid)
    objects = len(index.read("SELECT cid FROM objects UNION SELECT cid FROM dags"))
    done = Rebuilt(objects, sum(map(len, pins.all().values())), tuple(lost))
    index.close()
    return done


# ---------------------------------------------------------------- plain files


def _take_files(layout: Layout, index: Index, progress: Progress | None) -> list[str]:
    """Record every object that is what its folder's name says; returns the names of the others, set aside."""
    lost = []
    folders = sorted(layout.objects(), key=lambda folder: folder.lstat().st_mtime)
    counter = unixfs.Counter("reindex", sum(_bytes_of(folder) for folder in folders), progress)
    for folder in folders:
        try:
            artifact, files = _identify(folder, counter)
        except CitrateError:
            lost.append(folder.name)
            _set_aside(layout, folder)
            continue
        nodes = () if artifact.bare else directory(artifact.files).root.nodes
        index.insert(artifact, files, nodes)
    return lost


def _identify(folder: Path, counter: unixfs.Counter) -> tuple[Artifact, list[StagedFile]]:
    """Hash a folder's files in the ways that give an object its name, until one gives the folder's.

    Raises:
        FormatError: none does.
    """
    sources, _ = unixfs.scan(folder)
    for profile in PLAIN_PROFILES:
        files = [_staged(folder, source.path, profile, counter) for source in sources]
        for bare in (True, False) if len(files) == 1 and "/" not in files[0].entry.path else (False,):
            artifact = unixfs.artifact((file.entry for file in files), bare=bare)
            if artifact.cid == folder.name:
                return artifact, files
    raise FormatError(f"{folder} does not hold what its name says")


def _staged(folder: Path, path: str, profile: str, counter: unixfs.Counter) -> StagedFile:
    receipt = Receipt.of((folder / path).lstat())
    hashed = unixfs.hash_file(folder / path, progress=counter.add, profile=profile)
    dag = hashed.dag()
    return StagedFile(hashed.entry(path, dag), hashed.cut, dag.nodes, receipt)


def _bytes_of(folder: Path) -> int:
    return sum((Path(at) / name).lstat().st_size for at, _, names in os.walk(folder) for name in names)


# ---------------------------------------------------------------- blocks


def _take_pack(layout: Layout, index: Index, name: str, known: PackList) -> list[str]:
    """Record the DAGs of a pack as far as its blocks are what they should be; returns what is lost of it.

    A process that was killed may have left a DAG in two packs, one of which has less of it.

    Args:
        layout: the store's.
        index: the new one.
        name: the pack's.
        known: what the list beside it and the old index tell of it: every block is compared with its hash.
    """
    places: _Places = {}
    for multihash, offset, length in sorted(known.rows):
        places.setdefault(multihash, []).append((offset, length))
    pack, found, lost = layout.pack(name), [], []
    for cid in sorted(known.roots):
        try:
            reached, whole = _walk(pack, Cid.parse(cid), places)
        except (CitrateError, ValueError, OSError):
            reached, whole = {}, False
        if reached:
            found.append((cid, reached, whole))
        else:
            lost.append(cid)
    if not found:
        _set_aside(layout, pack)
        return lost or [f"packs/{name}"]
    with index.writing() as connection:
        pack_id = connection.execute("INSERT INTO packs(name) VALUES(?)", (name,)).lastrowid
        for cid, reached, whole in found:
            (standing,) = connection.execute("SELECT max(blocks) FROM dags WHERE cid = ?", (cid,)).fetchone()
            if standing is not None and standing >= len(reached):
                continue
            size = sum(length for _, length in reached.values())
            dag_id = connection.execute(
                "INSERT OR REPLACE INTO dags(cid, size_bytes, blocks, whole, pack_id, added_s) "
                "VALUES(?, ?, ?, ?, ?, ?)",
                (cid, size, len(reached), whole, pack_id, int(pack.stat().st_mtime)),
            ).lastrowid
            rows = ((block, dag_id, offset, length) for block, (offset, length) in reached.items())
            connection.executemany("INSERT INTO blocks(hash, dag_id, offset, length) VALUES(?, ?, ?, ?)", rows)
        connection.execute(FORGET_PACKS)
    return lost


def _walk(pack: Path, root: Cid, places: _Places) -> tuple[dict[bytes, tuple[int, int]], bool]:
    """The blocks that a root leads to and that are right, with their places, and whether these are all of them."""
    reached: dict[bytes, tuple[int, int]] = {}
    seen, ahead, whole = set[Cid](), [root], True
    while ahead:
        cid = ahead.pop()
        if cid in seen:
            continue
        seen.add(cid)
        block = cid.digest
        if not cid.is_identity:
            read = ((place, read_piece(pack, *place)) for place in places.get(cid.multihash, ()))
            right = next(((place, piece) for place, piece in read if cid.matches(piece)), None)
            if right is None:
                whole = False
                continue
            reached[cid.multihash], block = right
        ahead += ipld.links(cid, block)
    return reached, whole


# ---------------------------------------------------------------- the old index and the new


def _old_pins(layout: Layout) -> Iterator[tuple[str, Pin]]:
    """The pins of the old index, as far as it can be read."""
    if not layout.index.exists():
        return
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(layout.index)) as connection:
        for cid, reason, since in connection.execute("SELECT cid, reason, since_s FROM pins"):
            if isinstance(cid, str) and isinstance(reason, str) and cid.isalnum() and reason.isprintable():
                yield cid, Pin(reason, since if isinstance(since, int) else None)


def _old_packs(layout: Layout) -> dict[str, PackList]:
    """What the old index knows of each pack, as far as it can be read."""
    roots, rows = dict[str, set[str]](), dict[str, set[Row]]()
    if not layout.index.exists():
        return {}
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(layout.index)) as connection:
        for name, cid in connection.execute("SELECT name, cid FROM dags JOIN packs ON packs.id = pack_id"):
            if isinstance(name, str) and isinstance(cid, str):
                roots.setdefault(name, set()).add(cid)
        for name, *row in connection.execute(
            "SELECT name, hash, offset, blocks.length FROM blocks JOIN dags ON dags.id = dag_id "
            "JOIN packs ON packs.id = pack_id"
        ):
            match row:
                case [bytes() as multihash, int() as offset, int() as length] if min(offset, length) >= 0:
                    rows.setdefault(name, set()).add((multihash, offset, length))
    return {name: PackList(frozenset(of_one), frozenset(rows.get(name, ()))) for name, of_one in roots.items()}


def _set_aside(layout: Layout, path: Path) -> None:
    target = layout.damaged(path.name)
    target.parent.mkdir(exist_ok=True)
    path.rename(target)


def _replace(layout: Layout, new: Path) -> None:
    """Put the new index in the old one's place. The old one's log must not stay beside the new one."""
    for suffix in ("", "-wal", "-shm"):
        old = layout.index.with_name(layout.index.name + suffix)
        if old.exists():
            kept = layout.root / "damaged" / f"{old.name}.{uuid.uuid4().hex[:8]}"
            kept.parent.mkdir(exist_ok=True)
            if suffix or not old.is_file():
                old.rename(kept)
            else:
                os.link(old, kept)  # there is an index at every moment
    new.replace(layout.index)
    sync_directory(layout.root)


def _remove_database(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
