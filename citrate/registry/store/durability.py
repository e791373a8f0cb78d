"""Making many small files durable at once: one call for the file system instead of one a file.

``fsync`` of a file waits for the disk each time; for 100,000 files that is minutes. ``syncfs`` waits once, for all that
was written to the file system before, file data and names alike. It takes the place of ``fsync`` only where it promises
as much: on file systems known to write everything back on it, and from Linux 5.8 on, which reports a write that failed
since the descriptor was opened.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

_REPORTS_FAILURES_FROM = (5, 8)
_SYNCED_WHOLE = frozenset({
    0xEF53,  # ext2, ext3, ext4
    0x58465342,  # xfs
    0x9123683E,  # btrfs
    0xF2F52010,  # f2fs
    0xCA451A4E,  # bcachefs
    0x2FC12FC1,  # zfs
    0x01021994,  # tmpfs, which has nothing to write back
})  # fmt: skip
"""Numbers of Linux's ``statfs``. Not FUSE, which may pass on ``fsync`` alone, nor anything over a network."""


@contextlib.contextmanager
def whole_sync(folder: Path) -> Iterator[Callable[[], None] | None]:
    """What makes all durable that is written on ``folder``'s file system from now on, and raises OSError if one of the
    writes failed; None where only ``fsync`` of each file does."""
    call = _syncfs() if _is_synced_whole(folder) else None
    if call is None:
        yield None
        return
    # Opened before the first write: failures are reported from here on.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:

        def sync() -> None:
            if call(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))

        yield sync
    finally:
        os.close(descriptor)


@functools.cache
def _syncfs() -> Callable[[int], int] | None:
    if sys.platform != "linux" or _linux_version() < _REPORTS_FAILURES_FROM:
        return None
    found = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if found is not None:
        found.argtypes, found.restype = (ctypes.c_int,), ctypes.c_int
    return found


def _linux_version() -> tuple[int, ...]:
    numbers = platform.release().split("-")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdecimal())


def _is_synced_whole(folder: Path) -> bool:
    if sys.platform != "linux" or sys.byteorder != "little":
        return False
    status = ctypes.create_string_buffer(512)  # struct statfs: its first word is the kind of file system
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "statfs") or libc.statfs(os.fsencode(folder), status) != 0:
        return False
    return int.from_bytes(status.raw[:4], "little") in _SYNCED_WHOLE
