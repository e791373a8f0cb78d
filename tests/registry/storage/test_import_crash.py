"""Imports that are killed, race each other, or bring more than memory holds."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from citrate.registry import cid as cids
from citrate.registry.cid import Cid
from citrate.registry.store import Store
from citrate.registry.store.importing import import_car
from tests.registry.storage.cars import Dag, section
from tests.registry.storage.conftest import CHUNK, pattern

IMPORT = """
import os, signal, sys
from pathlib import Path
from citrate.registry.store import Store, dags, dag_writer, importing, index, layout
def kill_at(owner, name, after):
    original = getattr(owner, name)
    def wrapped(*args, **kwargs):
        if not after:
            os.kill(os.getpid(), signal.SIGKILL)
        original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, wrapped)
{kill}
with open(sys.argv[2], "rb") as stream:
    for found in importing.import_car(Store(Path(sys.argv[1])), stream, "test"):
        print(found.stored.cid, flush=True)
"""


def start(store: Store, source: Path, kill: str = "") -> subprocess.Popen[str]:
    code = IMPORT.format(kill=kill)
    return subprocess.Popen([sys.executable, "-c", code, store.root, source], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def foreign(tmp_path: Path) -> tuple[Path, Cid]:
    dag = Dag()
    root = dag.folder(a=dag.file(*(pattern(5000, i) for i in range(50))), link=dag.symlink(b"a"))
    path = tmp_path / "foreign.car"
    path.write_bytes(dag.car(root))
    return path, root


@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [
        ("dag_writer.DagWriter", "put", True),
        ("dag_writer.DagWriter", "gather", True),
        ("dag_writer.os", "fsync", True),
        ("Path", "rename", False),
        ("Path", "rename", True),
        ("dags.DagShelf", "insert", False),
        ("dags.DagShelf", "insert", True),
        ("dags.DagShelf", "sweep", False),
    ],
)
def test_a_kill_at_any_step_leaves_nothing_partial(
    store: Store, foreign: tuple[Path, Cid], owner: str, name: str, after: bool
) -> None:
    path, root = foreign
    process = start(store, path, f"kill_at({owner}, {name!r}, {after})")
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    there = name == "sweep" or (name == "insert" and after)
    assert [item.cid for item in store.ls()] == [str(root)] * there
    assert store.pins(str(root)) == ["test"] * there  # never without its pin
    assert store.verify() == []
    store.gc()
    assert [path for path in (store.root / "staging").iterdir() if path.suffix != ".lock"] == []
    with path.open("rb") as stream:
        assert import_car(store, stream, "test")[0].added is not there
    store.gc()
    assert len(list((store.root / "packs").iterdir())) == 1
    assert list((store.root / "staging").iterdir()) == []
    assert b"".join(store.cat(str(root), "a")) == b"".join(pattern(5000, i) for i in range(50))


def test_kills_at_random_moments_leave_nothing_partial_and_lose_nothing_reported(
    tmp_path: Path, foreign: tuple[Path, Cid]
) -> None:
    path, root = foreign
    moments, reported = random.Random(5), 0
    for i in range(16):
        store = Store(tmp_path / f"store-{i}")
        process = start(store, path, 'print("ready", flush=True)')
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(moments.uniform(0, 0.08))
        process.kill()
        if process.communicate(timeout=30)[0].strip():
            reported += 1
            assert store.pins(str(root)) == ["test"]
        assert [item.cid for item in store.ls()] in ([], [str(root)])
        assert store.verify() == []
        with path.open("rb") as stream:
            import_car(store, stream, "test")
        store.gc()
        assert b"".join(store.cat(str(root), "a")) == b"".join(pattern(5000, i) for i in range(50))
        assert len(list((store.root / "packs").iterdir())) == 1
    assert reported < 16, "no kill came in time"


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
    code = IMPORT.format(kill="") + "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    peaks = []
    for path in (small, large):
        run = [sys.executable, "-c", code, str(tmp_path / path.stem), str(path)]
        done = subprocess.run(run, capture_output=True, text=True, check=True, timeout=60)
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 16 << 10  # KiB; the large one brings 300 MiB more
