"""Leaves that the store has already, in whatever object: copied from there, compared like those of any source.

This is what makes a new version of a model cheap where most of its bytes stand in the old one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from citrate.core.errors import IntegrityError
from citrate.registry.dag import CHUNK_BYTES
from citrate.registry.fetching.assembly import Assembly
from citrate.registry.store.leaf_places import LeafPlaces

_BATCH = 256


def copy_present(assembly: Assembly, places_of: LeafPlaces, placed: Callable[[Assembly, int, bool], None]) -> bool:
    """Bring what the store has of a file's missing leaves; returns whether it had any."""
    at, found = 0, False
    with _Reader() as reader:
        while (run := assembly.missing_run(at, len(assembly.leaves))) is not None:
            first, at = run[0], min(run[1], run[0] + _BATCH)
            places = places_of.find([assembly.leaves[number].digest for number in range(first, at)])
            for number in range(first, at) if places else ():
                leaf = assembly.leaves[number]
                for path, offset in places.get(leaf.digest, ()):
                    piece = reader.read(path, offset, leaf.length)
                    if piece is not None and _put(assembly, number, piece, placed):
                        found = True
                        break
    return found


def _put(assembly: Assembly, number: int, piece: memoryview, placed: Callable[[Assembly, int, bool], None]) -> bool:
    try:
        new_bytes, due = assembly.put(number, number + 1, piece)
    except IntegrityError:  # damaged, there: another copy or a source may have it
        return False
    placed(assembly, new_bytes, due)
    return True


class _Reader:
    """Reads pieces of files, most of them of the same file in a row."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(CHUNK_BYTES))
        self._path = Path()
        self._descriptor = -1

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read(self, path: Path, offset: int, length: int) -> memoryview | None:
        """A piece; None if it cannot be read, which is damage like any other."""
        with contextlib.suppress(OSError):
            if path != self._path:
                if self._descriptor >= 0:
                    os.close(self._descriptor)
                self._descriptor, self._path = -1, path
                self._descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            if self._descriptor >= 0 and os.preadv(self._descriptor, [self._buffer[:length]], offset) == length:
                return self._buffer[:length]
        return None
