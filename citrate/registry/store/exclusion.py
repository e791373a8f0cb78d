"""Many write into a store at once; but nobody does while its index is built anew.

What is recorded in an index that is about to be replaced is lost with it, however well it was done. So whoever changes
the store holds a lock of it together with all others who do, for as long as files and index must agree, and ``reindex``
holds the same lock alone. Readers hold nothing: they read the old index until the new one stands in its place.

The lock is the system's (``flock``): it ends with the process, however that ends. It is taken before any other lock of
the store, and a thread that holds it may ask for it again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from citrate.registry.atomic import make_folder

_LOG = logging.getLogger("citrate.store")
_CANNOT_BE_MADE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR)


class _Held(threading.local):
    """How often this thread holds the lock of each store."""

    def __init__(self) -> None:
        self.depths: dict[Path, int] = {}


_HELD = _Held()


@contextlib.contextmanager
def changing(root: Path) -> Iterator[None]:
    """Hold the store's lock together with all others who change it; waits while its index is built anew."""
    with _holding(root, fcntl.LOCK_SH):
        yield


@contextlib.contextmanager
def rebuilding(root: Path) -> Iterator[None]:
    """Hold the store's lock alone; waits for all who change it now.

    Raises:
        OSError: the lock cannot be made.
    """
    with _holding(root, fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def _holding(root: Path, how: int) -> Iterator[None]:
    depth = _HELD.depths.get(root, 0)
    descriptor = None if depth else _open(root, must=how == fcntl.LOCK_EX)
    try:
        if descriptor is not None:
            _take(descriptor, how)
        _HELD.depths[root] = depth + 1
        try:
            yield
        finally:
            _HELD.depths[root] = depth
    finally:
        if descriptor is not None:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a process that was forked meanwhile has the file open, too
            os.close(descriptor)


def _open(root: Path, *, must: bool) -> int | None:
    """The lock's file; None where it is not there and cannot be made, so that nobody else holds it either: whatever is
    to be written then says why it cannot."""
    try:
        make_folder(root)
        mode = os.O_RDWR if must else os.O_RDONLY  # which is what network file systems want for either lock
        return os.open(root / "store.lock", mode | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if must or error.errno not in _CANNOT_BE_MADE:
            raise
        return None


def _take(descriptor: int, how: int) -> None:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        if how == fcntl.LOCK_SH:
            _LOG.info("the store's index is being built anew (citrate store reindex): waiting until it is")
        fcntl.flock(descriptor, how)
