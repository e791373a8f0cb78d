"""Some files of an artifact, verified, in a folder of the user's: no object of the store, which has only whole ones."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from citrate.core.errors import AlreadyExistsError, CitrateError, IntegrityError, not_written
from citrate.core.records import Artifact, FileEntry
from citrate.core.sink import Progress
from citrate.registry.atomic import make_folder, sync_directory, sync_tree
from citrate.registry.fetching.artifact import Fetched, kept_on_failure
from citrate.registry.fetching.consistency import check_consistent
from citrate.registry.fetching.engine import STORE, Engine
from citrate.registry.fetching.partial import require_room, tidy
from citrate.registry.sources import Source
from citrate.registry.store import Store
from citrate.registry.store.layout import disk_errors, prune

OUT = "out"
"""The source of what was there already."""


def fetch_files(
    expected: Artifact,
    names: Collection[str],
    out: Path,
    store: Store,
    sources: Sequence[Source],
    progress: Progress | None = None,
) -> Fetched:
    """Fetch some files of an artifact into the folder ``out``: all of them, or nothing; those that it has are kept.

    They are fetched through ``partial/`` of the store, so that an interrupted call goes on where it was, and so does a
    later fetch of the whole artifact.

    Args:
        expected: as of ``fetch_artifact``.
        names: the paths of its files that are wanted.
        out: a folder that may hold files of the artifact, and nothing else; the files have their paths below it.
        store: looked through for leaves first.
        sources: asked side by side.
        progress: called with the stage ``fetch``, bytes, and who gives them.

    Raises:
        AlreadyExistsError: ``out`` holds something else, or such a file with other bytes.
        FormatError, IntegrityError, StoreError: as of ``fetch_artifact``; each file is compared leaf by leaf and whole.
    """
    check_consistent(expected)
    wanted = lacking(out, [file for file in expected.files if file.path in names], expected)
    if not wanted:
        return Fetched(out, OUT, 0)
    with disk_errors(store.root, expected.cid), store.layout.lock_partial(expected.cid):
        if store.has(expected.cid):
            try:
                whole = store.get(expected.cid, progress)
            except IntegrityError:
                pass  # of a damaged object each leaf is looked at
            else:
                hand_out(whole, wanted, out, bare=expected.bare)
                return Fetched(out, STORE, 0)
        folder = store.layout.partial(expected.cid)
        engine = Engine(wanted, expected.cid, store, sources, folder, progress)
        with kept_on_failure(folder, None):
            tidy(folder, {file.path for file in expected.files})
            require_room(folder, store.root, wanted, expected.cid)
            engine.run()
            hand_out(folder, wanted, out, move=True)
        prune(folder)
    return Fetched(out, ", ".join(engine.attempts.givers) or STORE, engine.fetched_bytes, tuple(engine.attempts.lies))


def lacking(out: Path, wanted: Sequence[FileEntry], expected: Artifact) -> tuple[FileEntry, ...]:
    """Which of the files that are wanted the folder ``out`` does not have yet; each that it has is read and compared.

    Raises:
        AlreadyExistsError: it has one with other bytes, or anything that is no file of the artifact; or is no folder.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise AlreadyExistsError(f"{out} exists and is no folder", hint="choose another --out")
    known, here = {file.path for file in expected.files}, set[str]()
    try:
        for path in out.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                continue
            name = path.relative_to(out).as_posix()
            if name not in known:
                raise AlreadyExistsError(f"{out} holds {name}, which is no part of this", hint="choose another --out")
            here.add(name)
        for file in wanted:
            if file.path in here and not _is_equal(out / file.path, file):
                raise AlreadyExistsError(
                    f"{out} holds {file.path} with other bytes", hint="move it away, or choose another --out"
                )
    except OSError as error:
        raise CitrateError(f"{out} cannot be read: {error.strerror}", hint="choose another --out") from error
    return tuple(file for file in wanted if file.path not in here)


def _is_equal(path: Path, file: FileEntry) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size_bytes:
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256


def hand_out(source: Path, files: Sequence[FileEntry], out: Path, *, bare: bool = False, move: bool = False) -> None:
    """Put files under ``out``, durably; where that is new or empty: all of them, or nothing.

    Args:
        source: the folder that holds them; or, ``bare``, the file.
        files: which; none of them is there yet.
        out: where to.
        bare: whether ``source`` is the one file.
        move: whether they are taken away from ``source``, once they are in place.

    Raises:
        CitrateError: ``out`` cannot be written; exit 5 where there is no room.
    """
    try:
        make_folder(out.parent)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise not_written(out, error) from error
    try:
        for file in files:
            origin, target = source if bare else source / file.path, staging / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if not (move and _linked(origin, target)):
                _copy(origin, target)
            target.chmod(0o644)
        staging.chmod(0o755)
        sync_tree(staging)
        _place(staging, files, out)
        sync_tree(out)
        sync_directory(out.parent)
    except OSError as error:
        raise not_written(out, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if move:
        for file in files:
            (source / file.path).unlink(missing_ok=True)


def _linked(origin: Path, target: Path) -> bool:
    """Give a file, whose bytes are durable, a second name; False where the file system cannot."""
    try:
        os.link(origin, target)
    except OSError:
        return False
    return True


def _copy(origin: Path, target: Path) -> None:
    """Copy a file, durably."""
    shutil.copyfile(origin, target)
    descriptor = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _place(staging: Path, files: Sequence[FileEntry], out: Path) -> None:
    """Move what is complete where it belongs: at once, or file by file beside those that are there."""
    if out.exists() and any(out.iterdir()):
        for file in files:
            (out / file.path).parent.mkdir(parents=True, exist_ok=True)
            (staging / file.path).rename(out / file.path)
        return
    if out.exists():
        out.rmdir()
    staging.rename(out)
