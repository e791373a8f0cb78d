"""Processes that are killed at moments of the clock's choosing, or that the system refuses: the store stays whole.

``test_moments`` chooses the moments itself; here they fall into the middle of whatever C does, too.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from citrate.registry.store import Store
from tests.registry.storage.conftest import CHUNK, pattern

ADD = """
import sys
from pathlib import Path
from citrate.registry.store import Store
print("ready", flush=True)
artifact = Store(Path(sys.argv[1])).add(Path(sys.argv[2]))
print(artifact.cid, flush=True)
"""


def start(root: Path, source: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", ADD, root, source], stdout=subprocess.PIPE, text=True)


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
