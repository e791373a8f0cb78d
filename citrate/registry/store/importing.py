"""CARs into the store: DAGs of citrate's profile as plain files, all others as blocks beside them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from citrate.core.errors import FormatError, IntegrityError
from citrate.core.sink import Progress
from citrate.registry import reader
from citrate.registry.carfile import CarFile
from citrate.registry.cid import Cid
from citrate.registry.cutting import TensorCuts
from citrate.registry.store.dag_writer import DagWriter
from citrate.registry.store.dags import NewDag
from citrate.registry.store.inventory import StoredObject
from citrate.registry.store.plain import Plain, plain
from citrate.registry.store.store import Store

_REPORT_EVERY_S = 0.05


@dataclass(frozen=True)
class Imported:
    """What became of one root. ``added``: it was not in the store before."""

    stored: StoredObject
    added: bool


def import_car(
    store: Store,
    stream: BinaryIO,
    reason: str,
    *,
    partial: bool = False,
    total_bytes: int = 0,
    progress: Progress | None = None,
) -> list[Imported]:
    """Put the DAGs of a CAR into the store and pin their roots. Nothing is kept before every block of the CAR was
    compared with its CID and every root was found whole.

    Blocks that no root leads to are left out; blocks that are missing are taken from the store, if it has them.

    Args:
        store: where to.
        stream: the CAR, of version 1 or 2; read once, from the first byte to the last.
        reason: who needs it.
        partial: keep a DAG although blocks of it are missing.
        total_bytes: the stream's length, for ``progress``.
        progress: called with the stage ``import`` and bytes.

    Raises:
        FormatError: no CAR, cut off, past a bound, not whole, or with a codec or hash that is not known here.
        IntegrityError: a block is not what its CID says.
        StoreError: no room, no permission, or the disk failed.
    """
    try:
        car = CarFile(stream)
        with store.dag_writer() as writer:
            for cid, block in _reported(car, total_bytes, progress):
                writer.put(cid, block)
            return keep(store, writer, car.roots, reason, partial=partial)
    except FormatError as error:
        if error.hint == FormatError.usual_hint:  # which is about models
            error.hint = "nothing of it was kept; ipfs dag export CID writes a CAR that is whole"
        raise


def _reported(car: CarFile, total_bytes: int, progress: Progress | None) -> Iterator[tuple[Cid, bytes]]:
    last = 0.0
    for cid, block in car.blocks():
        yield cid, block
        if progress is not None and (now := time.monotonic()) > last + _REPORT_EVERY_S:
            progress("import", car.read_bytes, max(total_bytes, car.read_bytes))
            last = now


def keep(store: Store, writer: DagWriter, roots: list[Cid], reason: str, *, partial: bool = False) -> list[Imported]:
    """Keep the DAGs that ``writer`` has the blocks of, and pin their roots.

    Roots that are their own content and lead to nothing need not be kept.

    Raises:
        FormatError: a block is missing, or there is nothing to keep.
        StoreError: no room, no permission, or the disk failed.
    """
    all_roots = [(root, writer.gather(number, root, partial=partial)) for number, root in enumerate(roots)]
    gathered = [new for _, new in all_roots if new.blocks]
    if not gathered:
        raise FormatError("the roots are their own content, so there is nothing to keep")
    as_blocks, fresh = list[NewDag](), set[str]()
    for root, new in all_roots:
        if not new.blocks:
            continue
        if _stands(store, new):
            store.pin(new.cid, reason)
            continue
        fresh.add(new.cid)
        files = plain(writer.block, root, new.blocks, new.size_bytes) if new.whole else None
        if files is None:
            as_blocks.append(new)
        else:
            _write_files(store, writer, new.cid, files)
            store.pin(new.cid, reason)
    if as_blocks:
        writer.commit(as_blocks, reason)
    return [Imported(store.stored(new.cid), new.cid in fresh) for new in gathered]


def _stands(store: Store, new: NewDag) -> bool:
    """Whether the store has this DAG, sound and as much of it as came; a damaged one makes way."""
    if store.has(new.cid):
        try:
            store.get(new.cid)
        except IntegrityError:
            store.set_aside(new.cid)
            return False
        return True
    return store.has_whole_dag(new.cid)


def _write_files(store: Store, writer: DagWriter, cid: str, files: Plain) -> None:
    with store.writer(bare=files.bare) as sink:
        for entry in files.files:
            cuts = None if entry.tsize is None else TensorCuts()
            file = sink.open(entry.path, entry.size_bytes, cuts)
            for piece in reader.content(writer.block, entry.cid):
                file.write(piece)
            file.close()
        sink.commit(expected=cid)
