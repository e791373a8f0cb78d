"""Processes that are killed, that race each other, or that the system refuses: the store stays whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from citrate.registry.store import Store
from tests.registry.storage.conftest import CHUNK, pattern

ADD = """
import os, signal, sys
from pathlib import Path
from citrate.registry.store import Store, index, layout, store as module
{before}
print("ready", flush=True)
artifact = Store(Path(sys.argv[1])).add(Path(sys.argv[2]))
print(artifact.cid, flush=True)
"""

KILL = """
def kill_at(owner, name, after):
    original = getattr(owner, name)
    def wrapped(*args, **kwargs):
        if not after:
            os.kill(os.getpid(), signal.SIGKILL)
        original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, wrapped)
kill_at({owner}, {name!r}, {after})
"""


def start(root: Path, source: Path, before: str = "") -> subprocess.Popen[str]:
    code = ADD.format(before=before)
    return subprocess.Popen([sys.executable, "-c", code, root, source], stdout=subprocess.PIPE, text=True)


def assert_whole(store: Store, source: Path) -> None:
    """Nothing partial is visible, and the store takes the object as if nothing had been."""
    for stored in store.ls():
        store.get(stored.cid)
    assert store.verify() == []
    assert len(store.ls()) <= 1
    cid = store.add(source).cid
    store.get(cid)
    assert [stored.cid for stored in store.ls()] == [cid]
    assert [path.name for path in (store.root / "objects").iterdir()] == [cid]
    assert list((store.root / "staging").iterdir()) == []


@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [
        ("os", "fsync", True),
        ("module", "sync_tree", False),
        ("Path", "rename", False),
        ("Path", "rename", True),
        ("index", "_leaf_rows", False),
        ("index.Index", "insert", False),
        ("index.Index", "insert", True),
        ("layout", "remove_tree", False),
    ],
)
def test_a_kill_at_any_step_leaves_nothing_partial(
    store: Store, model: Path, owner: str, name: str, after: bool
) -> None:
    process = start(store.root, model, KILL.format(owner=owner, name=name, after=after))
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert len(store.ls()) == (name in ("insert", "remove_tree") and (after or name == "remove_tree"))
    assert_whole(store, model)


def test_kills_at_random_moments_leave_nothing_partial_and_lose_nothing_reported(tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.mkdir()
    for i in range(4):
        (source / f"{i}").write_bytes(pattern(6 * CHUNK + i, i))
    delays = random.Random(7)
    reported = 0
    for i in range(14):
        store = Store(tmp_path / f"store-{i}")
        process = start(store.root, source)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delays.uniform(0, 0.12))
        process.kill()
        cid = process.communicate(timeout=30)[0].strip()
        if cid:
            reported += 1
            assert store.has(cid)
        assert_whole(store, source)
    assert reported < 14, "no kill came in time"


def test_processes_that_add_the_same_end_with_one_copy(store: Store, model: Path) -> None:
    processes = [start(store.root, model) for _ in range(4)]
    reported = {process.communicate(timeout=60)[0].split()[-1] for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert reported == {stored.cid for stored in store.ls()}
    assert len(list((store.root / "objects").iterdir())) == 1
    assert_whole(store, model)


def test_a_sweep_spares_the_writer_that_lives(store: Store, model: Path) -> None:
    with store.writer(bare=True) as sink:
        file = sink.open("a")
        file.write(b"half")
        Store(store.root).add(model)  # sweeps
        file.close()
        cid = sink.commit().cid
    assert store.get(cid).read_bytes() == b"half"


LIMITED = """
import filelock, os, resource, sys  # filelock: whoever the child becomes may not be able to read this environment
from pathlib import Path
from citrate.core.errors import StoreError
from citrate.registry.store import Store
store, source = Store(Path(sys.argv[1])), Path(sys.argv[2])
{limit}
try:
    store.add(source)
except StoreError as error:
    print(error.message, "|", error.hint)
"""


def limited(store: Store, source: Path, limit: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED.format(limit=limit), store.root, source],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout


def test_a_disk_that_fills_up_leaves_the_store_as_it_was(store: Store, model: Path) -> None:
    kept = store.put_block(b"kept")
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({CHUNK}, {CHUNK}))"
    assert "no room" in limited(store, model, limit)
    assert [stored.cid for stored in store.ls()] == [kept]
    assert list((store.root / "staging").iterdir()) == []
    assert store.verify() == []


def test_a_store_that_may_not_be_written_says_so(store: Store, model: Path) -> None:
    store.put_block(b"kept")
    for folder in model.parents:  # the child is another user: it may read the model, wherever pytest put it
        if folder.is_relative_to(tempfile.gettempdir()) and folder != Path(tempfile.gettempdir()):
            os.chmod(folder, 0o755)
    for folder in (store.root, store.root / "staging"):
        os.chmod(folder, 0o555)
    try:
        out = limited(store, model, "os.geteuid() or os.setuid(65534)")
    finally:
        for folder in (store.root, store.root / "staging"):
            os.chmod(folder, 0o755)
    assert "may not be written" in out
    assert "--home" in out
    assert store.verify() == []
