"""What the tests of damage do to a store."""

from __future__ import annotations

import os
from pathlib import Path

from tests.registry.storage.cars import Dag
from tests.registry.storage.conftest import pattern


def flip(path: Path, bit: int) -> None:
    """Turn one bit of a file, in place."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        (old,) = os.pread(descriptor, 1, bit // 8)
        os.pwrite(descriptor, bytes([old ^ 1 << bit % 8]), bit // 8)
    finally:
        os.close(descriptor)


def foreign() -> tuple[str, bytes]:
    """The root and the CAR of a folder that is kept as blocks."""
    dag = Dag()
    root = dag.folder(a=dag.file(*(pattern(3000, i) for i in range(4))), link=dag.symlink(b"a"))
    return str(root), dag.car(root)
