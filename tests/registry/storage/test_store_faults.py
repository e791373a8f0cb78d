"""What may happen to a store between two commands: each is one typed error with a next step, and nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import pytest

from citrate.core.errors import IntegrityError
from citrate.registry import fetching
from citrate.registry.sources.local import StoreSource
from citrate.registry.store import Store
from tests.registry.storage.cars import take
from tests.registry.storage.conftest import CHUNK, pattern
from tests.registry.storage.damage import flip, foreign

ROOT = Path(__file__).parents[3]


@pytest.fixture
def filled(store: Store, model: Path) -> tuple[Store, str]:
    """A store with one pinned folder, and its CID."""
    cid = store.add(model).cid
    store.pin(cid, "published")
    return store, cid


def stamped_back(path: Path, change: Callable[[Path], None]) -> None:
    """Change a file, and give it the time back that it had."""
    before = path.stat()
    path.chmod(0o644)
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    path.chmod(0o444)


# ---------------------------------------------------------------- objects


@pytest.mark.parametrize(
    "change",
    [
        lambda path: flip(path, 12345),
        lambda path: os.truncate(path, 1000),
        lambda path: path.open("ab").write(b"more"),
        lambda path: path.open("r+b").write(b"other bytes, as long as there were"),
    ],
)
def test_a_file_that_was_changed_in_place_is_found_even_with_its_old_time(
    filled: tuple[Store, str], change: Callable[[Path], None]
) -> None:
    store, cid = filled
    stamped_back(store.get(cid) / "sub" / "weights.bin", change)
    with pytest.raises(IntegrityError) as caught:
        store.get(cid)
    assert caught.value.hint
    assert store.stored(cid).damaged
    assert len(store.verify()) == 1


def test_what_is_written_through_another_name_of_the_file_is_found(filled: tuple[Store, str], tmp_path: Path) -> None:
    store, cid = filled
    other = tmp_path / "another name"
    os.link(store.get(cid) / "sub" / "weights.bin", other)
    store.get(cid)
    stamped_back(other, lambda path: flip(path, 99))
    with pytest.raises(IntegrityError):
        store.get(cid)


def test_objects_that_were_deleted_by_hand_are_named_and_pulled_again(
    filled: tuple[Store, str], model: Path, tmp_path: Path
) -> None:
    store, cid = filled
    shutil.rmtree(store.root / "objects")
    with pytest.raises(IntegrityError, match="missing"):
        store.get(cid)
    assert len(store.verify()) == 1
    publisher = Store(tmp_path / "publisher")
    artifact = publisher.add(model)
    fetching.fetch_artifact(artifact, store, [StoreSource(publisher, "publisher")])
    assert store.verify() == []
    assert store.pins(cid) == ["published"]


@pytest.mark.parametrize("at_s", [-86_400, 0, 4_102_444_800])
def test_files_from_before_the_epoch_and_from_the_future_are_hashed_and_believed(
    filled: tuple[Store, str], at_s: int
) -> None:
    store, cid = filled
    os.utime(store.get(cid) / "config.json", (at_s, at_s))
    store.get(cid)
    assert store.verify() == []


@pytest.mark.parametrize("jump_s", [-40 * 365 * 86_400, -3 * 86_400, 75 * 365 * 86_400])
def test_a_clock_that_jumps_loses_nothing(
    filled: tuple[Store, str], monkeypatch: pytest.MonkeyPatch, jump_s: int
) -> None:
    store, cid = filled
    real = time.time
    with store.writer(bare=True) as sink:
        file = sink.open("being written")
        monkeypatch.setattr(time, "time", lambda: real() + jump_s)
        store.get(cid)
        other = store.put_block(b"written then")
        store.pin(other, "pulled me/x")
        store.gc()
        file.close()
        third = sink.commit().cid
    monkeypatch.undo()
    assert {stored.cid for stored in store.ls()} == {cid, other, third}
    assert store.verify() == []
    store.gc(older_than_s=3600)
    assert cid in {stored.cid for stored in store.ls()}


# ---------------------------------------------------------------- locks, permissions


def test_lock_files_that_dead_processes_left_hinder_nobody(filled: tuple[Store, str], model: Path) -> None:
    store, cid = filled
    for name in (f"{cid}.lock", f"{cid}.partial.lock", "packs.lock"):
        (store.root / "locks" / name).write_text("99999999")
    (store.root / "staging" / "dead.lock").write_text("99999999")
    store.pin(cid, "demo")
    store.add(model)
    take(store, foreign()[1])
    store.gc()
    assert not list((store.root / "staging").iterdir())


AS_STRANGER = """
import filelock, json, os, sys  # filelock: whoever the child becomes may not be able to read this environment
from pathlib import Path
from citrate.core.errors import CitrateError
from citrate.registry.store import Store, importing
store, source, cid = Store(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]
os.geteuid() or os.setuid(65534)  # root may write whatever the modes say
done = {}
for name, work in {
    "get": lambda: str(store.get(cid)),
    "ls": lambda: [stored.cid for stored in store.ls()],
    "verify": lambda: [error.message for error in store.verify()],
    "cat": lambda: len(b"".join(store.cat(cid, "sub/weights.bin"))),
    "pins": lambda: store.pins(cid),
    "add": lambda: store.add(source).cid,
    "pin": lambda: store.pin(cid, "demo"),
    "unpin": lambda: store.unpin(cid, "published"),
    "remove": lambda: store.remove(other),
    "gc": lambda: [stored.cid for stored in store.gc()],
    "put": lambda: store.put_block(b"x"),
}.items():
    try:
        done[name] = work()
    except CitrateError as error:
        done[name] = [type(error).__name__, error.message, error.hint]
    except Exception as error:
        done[name] = "a fault: " + repr(error)
print(json.dumps(done))
"""


@pytest.fixture
def readable(tmp_path: Path) -> Iterator[None]:
    """Let other users read below the test's folder, wherever pytest put it."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to(tempfile.gettempdir()) and folder != Path(tempfile.gettempdir()):
            folder.chmod(0o755)
    yield
    for path in [tmp_path, *tmp_path.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)


def as_stranger(store: Store, source: Path, cid: str, code: str = AS_STRANGER) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", code.replace("store.remove(other)", "store.remove(cid)"), store.root, source, cid],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.usefixtures("readable")
def test_a_home_that_can_only_be_read_is_read_and_says_what_it_cannot_do(
    filled: tuple[Store, str], model: Path
) -> None:
    store, cid = filled
    store.close()
    before = sorted((store.root).rglob("*"))
    for path in [store.root, *store.root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    done = as_stranger(store, model, cid)
    assert done["get"] == str(store.root / "objects" / cid)
    assert done["ls"] == [cid]
    assert done["verify"] == []
    assert done["cat"] == 3 * CHUNK + 17
    assert done["pins"] == ["published"]
    assert done["gc"] == []
    for name in ("add", "pin", "unpin", "remove", "put"):
        kind, message, hint = done[name]
        assert kind in ("StoreError", "NotPermittedError"), done[name]
        assert "may not be written" in message or "is pinned" in message
        assert hint
    assert sorted((store.root).rglob("*")) == before


@pytest.mark.usefixtures("readable")
@pytest.mark.parametrize("hidden", ["objects", "index.sqlite", "."])
def test_a_home_that_may_not_even_be_read_says_so(filled: tuple[Store, str], model: Path, hidden: str) -> None:
    store, cid = filled
    (store.root / hidden).chmod(0)
    try:
        done = as_stranger(store, model, cid)
    finally:
        (store.root / hidden).chmod(0o755)
    assert not [result for result in done.values() if str(result).startswith("a fault")], done
    assert done["get"][0] in ("StoreError", "IntegrityError"), done["get"]
    assert store.verify() == []


# ---------------------------------------------------------------- a full disk

ON_A_FULL_DISK = """
import json, resource, sys
from pathlib import Path
from citrate.core.errors import StoreError
from citrate.registry.store import Store, removing
import filelock  # before no file can grow
store, kept, small, large = Store(Path(sys.argv[1])), *sys.argv[2:]
def room(size_bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))
def with_room_after(delete):
    def deleting(path):
        there = path.exists()
        delete(path)
        if there and path.name == large:
            room(resource.RLIM_INFINITY)
    return deleting
removing.remove_tree = with_room_after(removing.remove_tree)
room(1000)
print(json.dumps({
    "ls": [stored.cid for stored in store.ls()],
    "verify": [error.message for error in store.verify()],
    "cat": len(b"".join(store.cat(kept))),
    "dry": [stored.cid for stored in store.gc(dry_run=True)],
}))
for name in ("unpin", "remove"):
    try:
        {"unpin": lambda: store.unpin(kept, "added"), "remove": lambda: store.remove(small)}[name]()
    except StoreError as error:
        print(error.message, "|", error.hint)
print([stored.cid for stored in store.gc()])
"""


def test_a_full_disk_is_read_and_room_is_made_on_it(store: Store, tmp_path: Path) -> None:
    """No file can grow past 1 kB, as on a full disk, until the large object's files are gone."""
    kept, small = store.put_block(b"kept"), store.put_block(b"small")
    (tmp_path / "large").write_bytes(pattern(CHUNK))
    large = store.add(tmp_path / "large").cid
    store.pin(kept, "added")
    store.close()
    done = subprocess.run(
        [sys.executable, "-c", ON_A_FULL_DISK, store.root, kept, small, large],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    read, unpin, remove, collected = done.stdout.splitlines()
    assert json.loads(read) == {"ls": [kept, small, large], "verify": [], "cat": 4, "dry": [small, large]}
    for refused in (unpin, remove):
        assert "no room" in refused
        assert "citrate store gc" in refused
    assert collected == str([small, large])
    assert [stored.cid for stored in store.ls()] == [kept]
    assert store.pins(kept) == ["added"]
    assert store.verify() == []


# ---------------------------------------------------------------- many at once

AT_ONCE = """
import filelock, os, sys
from pathlib import Path
from citrate.registry import fetching
from citrate.registry.sources.local import StoreSource
from citrate.registry.store import Store, writer, index
root, publisher, source = map(Path, sys.argv[1:4])
artifact = Store(publisher).artifact(sys.argv[4])
def one(number):
    store = Store(root)
    if number % 2:
        fetching.fetch_artifact(artifact, store, [StoreSource(Store(publisher), "publisher")])
    else:
        assert store.add(source).cid == artifact.cid
    store.pin(artifact.cid, f"process {number}")
children = []
for number in range(16):
    child = os.fork()
    if child == 0:
        try:
            one(number)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


def test_sixteen_processes_that_add_and_pull_the_same_end_with_one_copy(
    store: Store, model: Path, tmp_path: Path
) -> None:
    publisher = Store(tmp_path / "publisher")
    cid = publisher.add(model).cid
    publisher.close()
    done = subprocess.run(
        [sys.executable, "-c", AT_ONCE, store.root, tmp_path / "publisher", model, cid],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [stored.cid for stored in store.ls()] == [cid]
    assert [path.name for path in (store.root / "objects").iterdir()] == [cid]
    assert store.pins(cid) == sorted(f"process {number}" for number in range(16))
    assert store.verify() == []
    for folder in ("staging", "partial"):
        assert not (store.root / folder).exists() or not list((store.root / folder).iterdir())
    for path in (store.root / "locks").iterdir():
        filelock.FileLock(path).acquire(timeout=0).lock.release()
