"""Where things lie under the store's root, and how they get there without ever being half there.

::

    objects/CID/...        the files of one object, read-only; complete, because renamed into place
    staging/RANDOM/...     an object being written; its writer holds staging/RANDOM.lock
    partial/CID/...        an object being fetched, resumed by the next attempt; under locks/CID.lock
    packs/NAME             the blocks of one or more DAGs that are no plain files, one after the other; read-only
    damaged/CID.RANDOM/... an object that was found damaged and replaced; for whoever wants to know why
    locks/CID.lock         who may create or remove this object
    store.lock             who changes anything; ``exclusion``
    index.sqlite           what is in objects/ (a folder that is not in the index is not an object)
    pins/CID               who needs it, a line each; beside the index's own list, which may get lost
    lists/NAME             which blocks are in the pack of this name, for the same reason
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import shutil
import sqlite3
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from citrate.core.errors import StoreError
from citrate.registry.atomic import make_folder
from citrate.registry.store import exclusion

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_INDEX_IS_SOUND = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_BUSY: None,
    sqlite3.SQLITE_LOCKED: None,
    sqlite3.SQLITE_NOMEM: None,
    sqlite3.SQLITE_INTERRUPT: None,
}
"""What SQLite complains of although the index is as it should be, and the system's number for it."""
_ROOM_OF_THE_INDEX = 1 << 20
"""Bytes. SQLite fails with less than a few pages, and says only that the disk failed."""
_SYNC_FILE_RANGE_WRITE = 2


@dataclass(frozen=True)
class Layout:
    """The folders of a store. Reading creates none of them."""

    root: Path

    @property
    def index(self) -> Path:
        return self.root / "index.sqlite"

    def object(self, cid: str) -> Path:
        """The folder that holds the files of an object."""
        return self.root / "objects" / cid

    def objects(self) -> list[Path]:
        """The folders of all objects, and of such as a killed process left."""
        folder = self.root / "objects"
        return list(folder.iterdir()) if folder.exists() else []

    def pack(self, name: str) -> Path:
        """The file that holds the blocks of imported DAGs."""
        return self.root / "packs" / name

    def list_of(self, name: str) -> Path:
        """The file that says which blocks are in a pack."""
        return self.root / "lists" / name

    def roots_of(self, name: str) -> list[str]:
        """The roots of the DAGs in a pack, as its list has them."""
        path = self.list_of(name)
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return [line.removeprefix("root ") for line in lines if line.startswith("root ")]

    def packs(self) -> list[str]:
        """The names of all packs, and of such as a killed process left."""
        return self._names("packs")

    def lists(self) -> list[str]:
        """The names of the lists of all packs, and of such as a killed process left."""
        return self._names("lists")

    def _names(self, name: str) -> list[str]:
        folder = self.root / name
        return [path.name for path in folder.iterdir()] if folder.exists() else []

    def damaged(self, cid: str) -> Path:
        """A new place for a damaged object."""
        return self.root / "damaged" / f"{cid}.{uuid.uuid4().hex[:8]}"

    def partial(self, cid: str) -> Path:
        """The folder in which a fetch of the object goes on."""
        return self.root / "partial" / cid

    @contextlib.contextmanager
    def lock(self, cid: str) -> Iterator[None]:
        """Hold the lock of one object, in order to change it; waits for another process that has it."""
        with exclusion.changing(self.root), self._named(cid):
            yield

    @contextlib.contextmanager
    def lock_partial(self, name: str) -> Iterator[None]:
        """Hold the lock of one fetch; waits for another process that has it. Nothing of the store changes by it."""
        with self._named(f"{name}.partial"):
            yield

    @contextlib.contextmanager
    def _named(self, name: str) -> Iterator[None]:
        path = self.root / "locks" / f"{name}.lock"
        make_folder(path.parent)
        with file_lock(path):
            yield

    def sweep_partial(self) -> None:
        """Remove what interrupted fetches left, but not what is being fetched."""
        if not (self.root / "partial").exists():
            return
        for folder in list((self.root / "partial").iterdir()):
            path = self.root / "locks" / f"{folder.name}.partial.lock"
            make_folder(path.parent)
            with try_lock(path) as ours:
                if ours:
                    remove_tree(folder)

    def sweep_staging(self) -> None:
        """Remove what killed writers left, but not what is being written."""
        if (self.root / "staging").exists():
            sweep(self.root / "staging")

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder of our own that is gone afterwards, and swept by the next writer if we are killed."""
        folder = self.root / "staging"
        make_folder(folder)
        sweep(folder)
        name = uuid.uuid4().hex
        with file_lock(folder / f"{name}.lock"):
            mine = folder / name
            mine.mkdir()
            try:
                yield mine
            finally:
                remove_tree(mine)
                (folder / f"{name}.lock").unlink(missing_ok=True)


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold a lock among processes; waits for it. It ends with the process, however that ends."""
    import filelock  # not at the top: reading the store takes no lock, and this takes long to import

    with filelock.FileLock(path):
        yield


@contextlib.contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """As ``file_lock``, but without waiting: says whether the lock is ours."""
    import filelock

    try:
        lock = filelock.FileLock(path).acquire(timeout=0)
    except filelock.Timeout:
        yield False
        return
    with lock:
        yield True


def sweep(staging: Path) -> None:
    """Remove what killed writers left: folders whose lock nobody holds."""
    for entry in list(staging.iterdir()):
        if entry.suffix == ".lock":
            if not entry.with_suffix("").exists():  # its writer was killed before it had a folder, or has none yet
                with try_lock(entry) as ours:
                    if ours:
                        entry.unlink(missing_ok=True)
            continue
        with try_lock(staging / f"{entry.name}.lock") as ours:
            if ours:
                remove_tree(entry)
                (staging / f"{entry.name}.lock").unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a folder of ours and all below it, or a file; what is not there is fine."""
    with contextlib.suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def prune(folder: Path) -> None:
    """Remove empty files and folders, ``folder`` itself included."""
    for directory, _, names in os.walk(folder, topdown=False):
        for path in (Path(directory) / name for name in names):
            if path.lstat().st_size == 0:
                path.unlink()
        with contextlib.suppress(OSError):  # not empty
            Path(directory).rmdir()


def start_write_back(descriptor: int, offset: int, length: int) -> None:
    """Let the disk begin with bytes that were written, without waiting, so that the later fsync has little left to do.
    A hint: where the system has no such call, nothing happens."""
    call = _sync_file_range()
    if call is not None:
        call(descriptor, offset, length, _SYNC_FILE_RANGE_WRITE)


@functools.cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    found = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if found is not None:
        found.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return found


@contextlib.contextmanager
def disk_errors(root: Path, cid: str = "") -> Iterator[None]:
    """Turn what the disk or the index refuses into a StoreError that says what to do."""
    try:
        yield
    except OSError as error:
        raise _store_error(root, cid, error.errno, error.strerror or str(error)) from error
    except sqlite3.Error as error:
        if is_no_room(error, root):
            raise _store_error(root, cid, errno.ENOSPC, f"index: {error}") from error
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code not in _INDEX_IS_SOUND:
            raise StoreError(
                f"the index of the store at {root} is damaged: {error}",
                hint="citrate store reindex builds it anew from the objects' files",
                cid=cid,
            ) from error
        raise _store_error(root, cid, _INDEX_IS_SOUND[code], f"index: {error}") from error


def is_no_room(error: sqlite3.Error, folder: Path) -> bool:
    """Whether SQLite failed because the disk is full, which it often calls an I/O error."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code & 0xFF != sqlite3.SQLITE_IOERR:
        return code & 0xFF == sqlite3.SQLITE_FULL
    if code == sqlite3.SQLITE_IOERR_SHMSIZE:  # the file that it shares with other processes cannot be made
        return True
    try:
        return shutil.disk_usage(folder).free < _ROOM_OF_THE_INDEX
    except OSError:
        return False


def _store_error(root: Path, cid: str, number: int | None, text: str) -> StoreError:
    if number in _FULL:
        return StoreError(
            f"no room in the store at {root}: {text}",
            hint="free some space: citrate store gc, or delete other files of this disk",
            cid=cid,
        )
    if number in _FORBIDDEN:
        return StoreError(
            f"the store at {root} may not be written: {text}",
            hint="mend its permissions, or choose another home with --home",
            cid=cid,
        )
    if number == errno.ENOTDIR:
        return StoreError(
            f"the store at {root} cannot be used: {text}",
            hint="a file stands where a folder should be: move it away, or choose another home with --home",
            cid=cid,
        )
    return StoreError(f"the store at {root} failed: {text}", hint="see what is damaged: citrate store verify", cid=cid)
