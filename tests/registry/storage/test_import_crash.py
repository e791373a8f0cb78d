"""Imports that race each other, or bring more than memory holds; ``test_moments`` kills them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from citrate.registry import cid as cids
from citrate.registry.cid import Cid
from citrate.registry.store import Store
from tests.registry.storage.cars import Dag, section
from tests.registry.storage.conftest import CHUNK, pattern

IMPORT = """
import sys
from pathlib import Path
from citrate.registry.store import Store, importing
with open(sys.argv[2], "rb") as stream:
    for found in importing.import_car(Store(Path(sys.argv[1])), stream, "test"):
        print(found.stored.cid, flush=True)
"""


def start(store: Store, source: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", IMPORT, store.root, source], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def foreign(tmp_path: Path) -> tuple[Path, Cid]:
    dag = Dag()
    root = dag.folder(a=dag.file(*(pattern(5000, i) for i in range(50))), link=dag.symlink(b"a"))
    path = tmp_path / "foreign.car"
    path.write_bytes(dag.car(root))
    return path, root


def test_processes_that_import_the_same_end_with_one_copy(store: Store, foreign: tuple[Path, Cid]) -> None:
    path, root = foreign
    processes = [start(store, path) for _ in range(4)]
    assert {process.communicate(timeout=60)[0].strip() for process in processes} == {str(root)}
    assert [process.returncode for process in processes] == [0] * 4
    assert [item.cid for item in store.ls()] == [str(root)]
    assert len(list((store.root / "packs").iterdir())) == 1
    assert store.verify() == []


def test_memory_stays_flat_however_large_the_car(store: Store, tmp_path: Path) -> None:
    dag = Dag()
    root = dag.folder(link=dag.symlink(b"x"), big=dag.file(*(pattern(CHUNK, i) for i in range(8))))
    small, large = tmp_path / "small.car", tmp_path / "large.car"
    small.write_bytes(dag.car(root))
    with large.open("wb") as file:
        file.write(dag.car(root))
        for i in range(300):
            block = pattern(CHUNK, 1000 + i)
            file.write(section(Cid.of(cids.RAW, block), block))
    code = IMPORT + "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    peaks = []
    for path in (small, large):
        run = [sys.executable, "-c", code, str(tmp_path / path.stem), str(path)]
        done = subprocess.run(run, capture_output=True, text=True, check=True, timeout=60)
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 16 << 10  # KiB; the large one brings 300 MiB more
