"""One command at a time works in a run's folder, by a lock that ends with the last process that holds it.

A run's processes inherit it: should they outlive their command, nobody cuts or continues the files that they write.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from citrate.core.errors import AlreadyExistsError, TrainingError, not_written

LOCK = ".lock"
_PATIENCE_S = 5.0
"""How long the processes of a command that was just killed are waited for."""
_POLL_S = 0.05


@contextmanager
def held(out: Path) -> Iterator[int]:
    """Hold a run's folder, which is made if it is not there, and is gone again if nothing was put into it.

    Yields the descriptor of the lock, which the run's processes are to inherit.

    Raises:
        TrainingError: another command is at work in it.
        AlreadyExistsError: it is no folder.
        CitrateError: it cannot be written to.
    """
    is_new = not out.exists()
    descriptor = _locked(out)
    try:
        yield descriptor
    finally:
        (out / LOCK).unlink(missing_ok=True)
        if is_new:
            with suppress(OSError):  # it is not empty
                out.rmdir()
        os.close(descriptor)


def _locked(out: Path) -> int:
    until = time.monotonic() + _PATIENCE_S
    while True:
        descriptor = _opened(out)
        if descriptor is not None:
            if _take(descriptor, out / LOCK):
                return descriptor
            os.close(descriptor)
        if time.monotonic() > until:
            raise TrainingError(
                f"another command is training in {out}", hint="wait for it or end it, or choose another --out"
            )
        time.sleep(_POLL_S)


def _opened(out: Path) -> int | None:
    """The lock's file; None: another command has just ended, and took the folder away with it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            return os.open(out / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except (FileExistsError, NotADirectoryError) as error:
        raise AlreadyExistsError(f"{out} is no folder", hint="choose another --out") from error
    except OSError as error:
        raise not_written(out, error) from error
    return None


def _take(descriptor: int, path: Path) -> bool:
    """Whether the lock is ours, and still the one that others would find."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
