"""What may happen to a store between two commands: each is one typed error with a next step, and nothing is lost."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import pytest

from citrate.core.errors import CitrateError, IntegrityError
from citrate.registry import fetching
from citrate.registry.sources.local import StoreSource
from citrate.registry.store import Store
from citrate.registry.store.rebuilding import rebuild
from tests.registry.storage.cars import Dag, take
from tests.registry.storage.conftest import CHUNK, pattern

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


def flip(path: Path, bit: int) -> None:
    """Turn one bit of a file, in place."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        (old,) = os.pread(descriptor, 1, bit // 8)
        os.pwrite(descriptor, bytes([old ^ 1 << bit % 8]), bit // 8)
    finally:
        os.close(descriptor)


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
    take(store, _foreign()[1])
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


# ---------------------------------------------------------------- the index


def _foreign() -> tuple[str, bytes]:
    dag = Dag()
    root = dag.folder(a=dag.file(*(pattern(3000, i) for i in range(4))), link=dag.symlink(b"a"))
    return str(root), dag.car(root)


@pytest.fixture
def mixed(store: Store, tmp_path: Path) -> tuple[Store, dict[str, str]]:
    """A store with a file, a folder and a DAG kept as blocks, all pinned; and what each CID is."""
    (tmp_path / "bare.gguf").write_bytes(pattern(30_000))
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    for name in ("config.json", "sub/weights"):
        (folder / name).write_bytes(pattern(5_000, len(name)))
    root, car = _foreign()
    names = {store.add(tmp_path / "bare.gguf").cid: "file", store.add(folder).cid: "folder"}
    take(store, car)
    names[root] = "dag"
    for cid in names:
        store.pin(cid, "published")
    store.unpin(root, "test")
    store.close()
    return store, names


def assert_all_there(store: Store, names: dict[str, str]) -> None:
    assert {stored.cid for stored in store.ls()} == set(names)
    assert store.verify() == []
    for cid, kind in names.items():
        assert store.pins(cid) == ["published"]
        if kind == "dag":
            assert b"".join(store.cat(cid, "a")) == b"".join(pattern(3000, i) for i in range(4))
        else:
            store.get(cid)
    assert store.gc(dry_run=True) == []


@pytest.mark.parametrize("how", ["deleted", "empty", "truncated", "garbage", "of another store", "a folder"])
def test_an_index_that_is_lost_is_told_and_built_anew(
    mixed: tuple[Store, dict[str, str]], how: str, tmp_path: Path
) -> None:
    store, names = mixed
    index = store.root / "index.sqlite"
    for log in store.root.glob("index.sqlite-*"):
        log.unlink()
    if how == "deleted":
        index.unlink()
    elif how == "of another store":
        other = Store(tmp_path / "other")
        other.put_block(b"of the other")
        other.close()
        shutil.copyfile(other.root / "index.sqlite", index)
    elif how == "a folder":
        index.unlink()
        index.mkdir()
    else:
        index.write_bytes({"empty": b"", "truncated": index.read_bytes()[:20_000], "garbage": b"x" * 9999}[how])
    found: list[str] = []
    for work in (store.ls, store.verify, lambda: store.get(next(iter(names))), store.gc):
        try:
            result = work()
        except CitrateError as error:
            found.append(error.hint)
        else:
            found += [error.hint for error in result if isinstance(error, CitrateError)]
    assert any("store reindex" in hint for hint in found), found
    done = rebuild(store.layout)
    assert (done.objects, done.pins, done.lost) == (3, 3, ())
    assert_all_there(Store(store.root), names)
    assert_all_there(store, names)  # what has run all the while sees the new one


def test_what_is_not_what_its_name_says_is_set_aside_when_the_index_is_built_anew(
    mixed: tuple[Store, dict[str, str]],
) -> None:
    store, names = mixed
    folder = next(cid for cid, kind in names.items() if kind == "folder")
    path = store.root / "objects" / folder / "config.json"
    path.chmod(0o644)
    path.write_bytes(b"other")
    done = rebuild(store.layout)
    assert done.lost == (folder,)
    assert {stored.cid for stored in store.ls()} == set(names) - {folder}
    (damage,) = store.verify()
    assert f"citrate store unpin {folder}" in damage.hint
    assert [path.name.partition(".")[0] for path in (store.root / "damaged").iterdir()].count(folder) == 1


def test_building_an_index_anew_that_is_sound_changes_nothing(mixed: tuple[Store, dict[str, str]]) -> None:
    store, names = mixed
    before = {stored.cid: stored.pins for stored in store.ls()}
    rebuild(store.layout)
    assert {stored.cid: stored.pins for stored in store.ls()} == before
    assert_all_there(store, names)


@pytest.mark.parametrize("how", ["gone", "garbage"])
def test_second_records_that_are_lost_are_renewed_by_verify(mixed: tuple[Store, dict[str, str]], how: str) -> None:
    store, names = mixed
    records = [*(store.root / "lists").iterdir(), *(store.root / "pins").iterdir()]
    assert len(records) == 4
    before = {path: path.read_bytes() for path in records}
    for path in records:
        path.unlink() if how == "gone" else path.write_bytes(random.Random(7).randbytes(300))
    assert store.verify() == []
    assert {path: path.read_bytes() for path in records} == before
    store.close()
    (store.root / "index.sqlite").unlink()
    done = rebuild(store.layout)
    assert (done.objects, done.pins, done.lost) == (3, 3, ())
    assert_all_there(store, names)


def test_a_pack_without_its_list_is_found_by_the_old_index(mixed: tuple[Store, dict[str, str]]) -> None:
    store, names = mixed
    shutil.rmtree(store.root / "lists")
    done = rebuild(store.layout)
    assert (done.objects, done.pins, done.lost) == (3, 3, ())
    assert len(list((store.root / "lists").iterdir())) == 1
    assert_all_there(store, names)


def test_what_is_lost_of_a_pack_is_named(mixed: tuple[Store, dict[str, str]]) -> None:
    store, names = mixed
    dag = next(cid for cid, kind in names.items() if kind == "dag")
    (pack,) = (store.root / "packs").iterdir()
    pack.chmod(0o644)
    pack.write_bytes(b"")
    assert rebuild(store.layout).lost == (dag,)
    assert len(list((store.root / "damaged").glob(f"{pack.name}*"))) == 1


MUST_BE_READ = (
    "SELECT cid FROM objects", "SELECT sha256 FROM objects", "SELECT path FROM files", "SELECT sha256 FROM files",
    "SELECT cid FROM files", "SELECT digest FROM leaves", "SELECT digest FROM nodes", "SELECT block FROM nodes",
    "SELECT cid FROM dags", "SELECT hash FROM blocks", "SELECT name FROM packs",
)  # fmt: skip
"""What says which bytes an object has, and where they are."""


def bits_that_must_be_read(index: Path) -> list[int]:
    """The bits of an index file without a free page that hold what says which bytes an object has."""
    data, bits = index.read_bytes(), set[int]()
    with contextlib.closing(sqlite3.connect(f"file:{index}?immutable=1", uri=True)) as connection:
        for query in MUST_BE_READ:
            for (value,) in connection.execute(query):
                needle = value if isinstance(value, bytes) else value.encode()
                at = data.find(needle)
                assert at >= 0, query
                while at >= 0:  # in the table, and in the table's own indexes
                    bits.update(range(8 * at, 8 * (at + len(needle))))
                    at = data.find(needle, at + 1)
    return sorted(bits)


def test_a_flipped_bit_in_the_index_is_found_or_does_no_harm(mixed: tuple[Store, dict[str, str]]) -> None:
    store, names = mixed
    index = store.root / "index.sqlite"
    with contextlib.closing(sqlite3.connect(index)) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sound = index.read_bytes()
    chosen = random.Random(20261121)
    read = chosen.sample(bits_that_must_be_read(index), 400)
    found = 0
    for bit in [*read, *chosen.sample(range(len(sound) * 8), 200)]:
        data = bytearray(sound)
        data[bit // 8] ^= 1 << bit % 8
        index.unlink()
        index.write_bytes(data)
        fresh = Store(store.root)
        try:
            if fresh.verify():
                found += 1
            else:
                assert_harmless(fresh, names)
                assert bit not in read, f"bit {bit} was flipped, and nobody noticed"
        except CitrateError as error:
            assert error.hint
            found += 1
        for log in store.root.glob("index.sqlite-*"):
            log.unlink()
    assert found >= 400
    index.unlink()
    index.write_bytes(sound)
    assert_all_there(Store(store.root), names)


def assert_harmless(store: Store, names: dict[str, str]) -> None:
    """Nothing wrong is handed out, and nothing that is needed would be deleted."""
    assert not {stored.cid for stored in store.gc(dry_run=True)} & set(names)
    for cid, kind in names.items():
        if kind == "dag":
            assert b"".join(store.cat(cid, "a")) == b"".join(pattern(3000, i) for i in range(4))
        else:
            assert store.get(cid).exists()
            assert b"".join(store.export_car(cid))


def test_a_flipped_bit_in_an_object_is_found(mixed: tuple[Store, dict[str, str]]) -> None:
    store, names = mixed
    files = [path for path in [*store.root.glob("objects/**/*"), *store.root.glob("packs/*")] if path.is_file()]
    assert len(files) == 4
    moments = random.Random(5)
    for number in range(400):
        path = files[number % 4]
        bit = moments.randrange(path.stat().st_size * 8)
        path.chmod(0o644)
        flip(path, bit)
        damages = store.damages()
        assert len(damages) == 1, (path, bit)
        flip(path, bit)
        cid = damages[0].cid
        if names[cid] != "dag":
            store.get(cid)  # it is sound again, and read to be sure
    assert store.verify() == []
    assert not any(stored.damaged for stored in store.ls())


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
