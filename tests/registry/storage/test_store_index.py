"""An index, its second records or a pack that is lost or damaged: found, built anew, and nothing else is lost."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from citrate.core.errors import CitrateError
from citrate.registry.store import Store
from citrate.registry.store.rebuilding import rebuild
from tests.registry.storage.cars import take
from tests.registry.storage.conftest import pattern
from tests.registry.storage.damage import flip, foreign


@pytest.fixture
def mixed(store: Store, tmp_path: Path) -> tuple[Store, dict[str, str]]:
    """A store with a file, a folder and a DAG kept as blocks, all pinned; and what each CID is."""
    (tmp_path / "bare.gguf").write_bytes(pattern(30_000))
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    for name in ("config.json", "sub/weights"):
        (folder / name).write_bytes(pattern(5_000, len(name)))
    root, car = foreign()
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
