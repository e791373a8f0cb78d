"""Some files of an artifact, verified, in a folder of the user's: no object of the store, which has only whole ones."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from citrate.core.errors import AlreadyExistsError, CitrateError, IntegrityError
from citrate.core.records import Artifact, FileEntry
from citrate.core.sink import Progress
from citrate.registry.fetching.artifact import Fetched, kept_on_failure
from citrate.registry.fetching.consistency import check_consistent
from citrate.registry.fetching.engine import STORE, Engine
from citrate.registry.fetching.partial import require_room, tidy
from citrate.registry.sources import Source
from citrate.registry.store import Store
from citrate.registry.store.layout import disk_errors, prune


def fetch_files(
    expected: Artifact,
    names: Collection[str],
    out: Path,
    store: Store,
    sources: Sequence[Source],
    progress: Progress | None = None,
) -> Fetched:
    """Fetch some files of an artifact into the folder ``out``: all of them, or nothing.

    They are fetched through ``partial/`` of the store, so that an interrupted call goes on where it was, and so does a
    later fetch of the whole artifact.

    Args:
        expected: as of ``fetch_artifact``.
        names: the paths of its files that are wanted.
        out: a folder that is not there yet, or empty; the files have their paths below it.
        store: looked through for leaves first.
        sources: asked side by side.
        progress: called with the stage ``fetch``, bytes, and who gives them.

    Raises:
        AlreadyExistsError: ``out`` holds something already.
        FormatError, IntegrityError, StoreError: as of ``fetch_artifact``; each file is compared leaf by leaf and whole.
    """
    check_consistent(expected)
    require_free(out)
    wanted = tuple(file for file in expected.files if file.path in names)
    with disk_errors(store.root, expected.cid), store.layout.lock(f"{expected.cid}.partial"):
        if store.has(expected.cid):
            try:
                whole = store.get(expected.cid)
            except IntegrityError:
                pass  # of a damaged object each leaf is looked at
            else:
                _hand_out(whole.parent if expected.bare else whole, wanted, out, move=False)
                return Fetched(out, STORE, 0)
        folder = store.layout.partial(expected.cid)
        engine = Engine(wanted, expected.cid, store, sources, folder, progress)
        with kept_on_failure(folder, None):
            tidy(folder, {file.path for file in expected.files})
            require_room(folder, store.root, wanted, expected.cid)
            engine.run()
            _hand_out(folder, wanted, out, move=True)
        prune(folder)
    return Fetched(out, ", ".join(engine.attempts.givers) or STORE, engine.fetched_bytes, tuple(engine.attempts.lies))


def require_free(out: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        AlreadyExistsError: it does, or is no folder.
    """
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise AlreadyExistsError(f"{out} exists and is not an empty folder", hint="choose another --out")


def _hand_out(folder: Path, files: Sequence[FileEntry], out: Path, *, move: bool) -> None:
    """Put files under ``out``: all of them, or nothing."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise _not_writable(out, error) from error
    try:
        for file in files:
            target = staging / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if move and _same_disk(folder, staging):
                (folder / file.path).rename(target)
            else:
                shutil.copyfile(folder / file.path, target)
            target.chmod(0o644)
        staging.chmod(0o755)
        if out.exists():
            out.rmdir()
        staging.rename(out)
    except OSError as error:
        raise _not_writable(out, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if move:
        for file in files:
            (folder / file.path).unlink(missing_ok=True)


def _same_disk(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev


def _not_writable(out: Path, error: OSError) -> CitrateError:
    return CitrateError(f"{out} cannot be written: {error.strerror}", hint="free some space, or choose another --out")
