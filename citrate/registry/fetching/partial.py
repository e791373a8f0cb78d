"""What an earlier, interrupted fetch left in ``partial/``: trusted for nothing, but what is right of it is kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from citrate.core.errors import StoreError
from citrate.core.records import FileEntry
from citrate.registry.dag import CHUNK_BYTES
from citrate.registry.fetching.assembly import Assembly
from citrate.registry.store import Store


def take_back(store: Store, cid: str) -> None:
    """Fetch into what a process left that was killed after it had put the folder in place, and before it said so."""
    folder, in_place = store.layout.partial(cid), store.layout.object(cid)
    with store.layout.lock(cid):
        if in_place.exists() and not folder.exists() and not store.has(cid):
            folder.parent.mkdir(parents=True, exist_ok=True)
            in_place.rename(folder)


def tidy(folder: Path, wanted: Collection[str]) -> None:
    """Remove what stands in a partial folder and is no file of the artifact, or of others, too: links, files of another
    listing, and what a call that was killed had handed out already, which is the user's."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in list(folder.rglob("*")):
        listed, is_folder = str(path.relative_to(folder)) in wanted, path.is_dir() and not path.is_symlink()
        if is_folder and listed:
            shutil.rmtree(path)
        elif not is_folder and (path.is_symlink() or not listed or path.lstat().st_nlink > 1):
            path.unlink(missing_ok=True)  # it went with its folder


def require_room(folder: Path, root: Path, files: Iterable[FileEntry], cid: str) -> None:
    """Refuse what cannot fit before its inner nodes are fetched: a hostile size would make them endless.

    Raises:
        StoreError: there is not enough room for what is still missing.
    """
    missing = sum(max(0, file.size_bytes - _held_bytes(folder / file.path)) for file in files)
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise StoreError(
            f"no room in the store at {root}: {missing} bytes are to come, {free} are free",
            hint="free some space: citrate store gc",
            cid=cid,
        )


def _held_bytes(path: Path) -> int:
    return path.stat().st_blocks * 512 if path.is_file() else 0


def recheck(assembly: Assembly, placed: Callable[[Assembly, int, bool], None]) -> None:
    """Hash what stands on disk of a file, and keep the leaves that are right, wherever they are.

    What was only reserved (a hole, to the file system) is not read.
    """
    leaves = assembly.leaves
    if leaves.size_bytes and not (assembly.path.is_file() and assembly.path.stat().st_size):
        return
    disk, buffer = assembly.open(), memoryview(bytearray(CHUNK_BYTES))
    number = 0
    while number < len(leaves):
        if leaves.size_bytes:
            at = disk.data_from(leaves.offset(number))
            if at is None or at >= leaves.size_bytes:
                return
            number = max(number, leaves.containing(at))
        leaf = leaves[number]
        piece = buffer[: leaf.length]
        disk.read_at(piece, leaf.offset)
        new_bytes, due = assembly.recognise(number, piece)
        if new_bytes or due:
            placed(assembly, new_bytes, due)
        number += 1
