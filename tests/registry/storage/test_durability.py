"""What a power cut must not take back: new files and every name that leads to them are synced before they are told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from citrate.cli import store_cars
from citrate.core.errors import CitrateError
from citrate.registry import atomic
from citrate.registry.cid import Cid
from citrate.registry.fetching import fetch_files, outside
from citrate.registry.sources import StoreSource
from citrate.registry.store import Store
from tests.registry.storage.cars import Dag, take
from tests.registry.storage.conftest import CHUNK, pattern


class Synced:
    """The files and folders that were synced, by what they are, since they may be renamed afterwards."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()

    def add(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self._seen.add((status.st_dev, status.st_ino))

    def lacks(self, *paths: Path) -> list[Path]:
        return [path for path in paths if (path.stat().st_dev, path.stat().st_ino) not in self._seen]

    def clear(self) -> None:
        self._seen.clear()


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Synced]:
    found, fsync = Synced(), os.fsync

    def watched(descriptor: int) -> None:
        found.add(descriptor)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    yield found


def above(path: Path, root: Path) -> list[Path]:
    """The path, and the folders above it up to ``root``."""
    return [path, *(folder for folder in path.parents if folder.is_relative_to(root))]


def test_the_first_object_and_all_that_leads_to_it(synced: Synced, model: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "home" / "store")
    cid = store.add(model).cid
    store.pin(cid, "published")
    path = store.get(cid)
    assert synced.lacks(*above(path / "config.json", tmp_path), *above(path / "sub" / "weights.bin", tmp_path)) == []
    assert synced.lacks(store.root / "pins" / cid, store.root / "pins") == []


def test_the_first_dag_and_what_is_mended_of_it(synced: Synced, store: Store, dag: Dag) -> None:
    root = dag.folder(a=dag.file(pattern(3000), pattern(3000, 2)), link=dag.symlink(b"a"))
    take(store, dag.car(root))
    (pack,), (listed,) = (store.root / "packs").iterdir(), (store.root / "lists").iterdir()
    assert synced.lacks(*above(pack, store.root), *above(listed, store.root)) == []
    pack.unlink()
    pack.parent.rmdir()
    synced.clear()
    blocks = {cid.multihash: block for cid, block in dag.blocks}
    store.mend_blocks(str(root), lambda cid: blocks[Cid.parse(cid).multihash])
    assert synced.lacks(*above(pack, store.root)) == []
    assert store.verify() == []


@pytest.mark.parametrize("stored", [True, False])
def test_files_that_are_handed_out(synced: Synced, store: Store, model: Path, tmp_path: Path, stored: bool) -> None:
    publisher = Store(tmp_path / "publisher")
    artifact = publisher.add(model)
    if stored:
        store.add(model)
    synced.clear()
    out = tmp_path / "new" / "out"
    fetch_files(artifact, {"config.json", "sub/weights.bin"}, out, store, [StoreSource(publisher, "publisher")])
    fetch_files(artifact, {".hidden"}, out, store, [StoreSource(publisher, "publisher")])
    for name in ("config.json", "sub/weights.bin", ".hidden"):
        assert synced.lacks(*above(out / name, tmp_path)) == []


def test_what_was_fetched_is_not_lost_where_it_cannot_be_handed_out(
    store: Store, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = Store(tmp_path / "publisher")
    artifact = publisher.add(model)
    wanted, out = {"config.json", "sub/weights.bin"}, tmp_path / "out"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outside, "_place", full)
    with pytest.raises(CitrateError, match="no room"):
        fetch_files(artifact, wanted, out, store, [StoreSource(publisher, "publisher")])
    monkeypatch.undo()
    assert not out.exists()
    again = fetch_files(artifact, wanted, out, store, [StoreSource(publisher, "publisher")])
    assert (out / "sub" / "weights.bin").read_bytes() == pattern(3 * CHUNK + 17)
    assert again.fetched_bytes < 1000, "the block that names the leaves, and none of them"
    assert not list((store.root / "partial").iterdir())


def test_a_car_that_is_exported(synced: Synced, tmp_path: Path) -> None:
    out = tmp_path / "new" / "a.car"
    assert store_cars._write(out, [b"one", b"two"]) == 6
    assert synced.lacks(*above(out, tmp_path)) == []
    assert out.read_bytes() == b"onetwo"


def test_two_who_write_the_same_file_at_once_end_with_one_of_the_two(tmp_path: Path) -> None:
    out = tmp_path / "a.car"

    def first() -> Iterator[bytes]:
        yield b"first, "
        store_cars._write(out, [b"second, to its end"])
        yield b"to its end"

    store_cars._write(out, first())
    assert out.read_bytes() == b"first, to its end"
    assert [path.name for path in tmp_path.iterdir()] == ["a.car"]


def test_what_cannot_be_written_whole_leaves_what_stood_there_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with pytest.raises(RuntimeError), atomic.replacing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
