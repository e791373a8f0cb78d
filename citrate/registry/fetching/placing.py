"""A file on disk that is written in any order."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from citrate.registry.pieces import in_pieces
from citrate.registry.store.layout import disk_errors, start_write_back
from citrate.registry.store.writer import DiskFile

_WRITE_BACK_BYTES = 32 << 20


class PlacedFile(DiskFile):
    """As ``DiskFile``, by offset; several threads may write to it at once."""

    @classmethod
    def reopen(cls, root: Path, path: Path) -> PlacedFile:
        """A file that may stand there from an earlier attempt, in whatever state."""
        with disk_errors(root):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                path.chmod(0o644)
            return cls(root, path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644))

    def write_at(self, data: memoryview, offset: int) -> None:
        """Put ``data`` at ``offset``."""
        with disk_errors(self._root):
            for piece in in_pieces(data):
                left = piece
                while len(left):
                    count = os.pwrite(self._descriptor, left, offset)
                    left, offset = left[count:], offset + count
        self._unsent += len(data)
        if self._unsent >= _WRITE_BACK_BYTES:
            self._unsent = 0
            start_write_back(self._descriptor, 0, 0)  # all of it that is not on its way

    def read_at(self, buffer: memoryview, offset: int) -> None:
        """Fill ``buffer`` with what stands at ``offset``; zeros behind the end of the file."""
        with disk_errors(self._root):
            done = 0
            while done < len(buffer):
                count = os.preadv(self._descriptor, [buffer[done:]], offset + done)
                if count == 0:
                    buffer[done:] = bytes(len(buffer) - done)
                    return
                done += count

    def data_from(self, offset: int) -> int | None:
        """Where the next bytes from ``offset`` on stand that were ever written; None: nowhere.

        Where the file system does not say, everything was.
        """
        if not hasattr(os, "SEEK_DATA"):
            return offset
        try:
            return os.lseek(self._descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            return None if error.errno == errno.ENXIO else offset
