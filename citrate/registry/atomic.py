"""Files that are either the old ones or the new ones, whatever happens in between; and names that a power cut keeps."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from citrate.core.errors import CitrateError


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace a file of the home by ``data``.

    Raises:
        CitrateError: no room, or no permission; the old file stands unchanged.
    """
    try:
        private_folder(path.parent)
        with replacing(path, mode) as file:
            file.write(data)
    except OSError as error:
        raise CitrateError(
            f"{path} cannot be written: {error.strerror}", hint="free some space, or choose another --home"
        ) from error


@contextlib.contextmanager
def replacing(path: Path, mode: int | None = None) -> Iterator[BinaryIO]:
    """A new file, under a name of its own, that takes the place of ``path`` when the block ends: temporary file, fsync,
    rename, fsync of the folder.

    Args:
        path: what is replaced, or made; its folder exists.
        mode: the new file's permissions; None: as those of any new file.

    Raises:
        OSError: no room, or no permission; what stood there stands unchanged, and nothing is left beside it.
    """
    new = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666 if mode is None else mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def private_folder(path: Path) -> None:
    """Make the folder, readable by its owner alone where it did not exist."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it; the names of those that are new are durable when it returns."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def sync_directory(folder: Path) -> None:
    """Make the names in ``folder`` durable; some network file systems know no such thing, and write names at once."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Make the names in ``folder`` and below durable; the files' bytes were synced when they were closed."""
    for directory, _, _ in os.walk(folder):
        sync_directory(Path(directory))
