"""What is put in place: gone on with after a kill between two steps, mended while others work, and once only."""

from __future__ import annotations

import errno
import fcntl
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from citrate.core.errors import IntegrityError, StoreError
from citrate.registry.by_cid import FetchedDag, fetch_dag
from citrate.registry.cid import Cid
from citrate.registry.fetching import fetch_artifact, fetch_files, outside
from citrate.registry.sources import StoreSource
from citrate.registry.store import Store
from citrate.registry.store.dags import DagShelf
from citrate.registry.store.layout import Layout, try_lock
from citrate.registry.store.rebuilding import rebuild
from tests.registry.storage.cars import Dag, take
from tests.registry.storage.conftest import pattern

KILLED_WHILE = {
    "it is sealed": "dag_writer.make_folder = kill",
    "it is in place": "DagShelf.insert = kill",
    "it is listed": "DagShelf._write_list = lambda *given: (listed(*given), kill())",
}
PROGRAM = """
import os, signal, sys
from pathlib import Path
from citrate.registry.by_cid import fetch_dag
from citrate.registry.sources import StoreSource
from citrate.registry.store import Store, dag_writer
from citrate.registry.store.dags import DagShelf

publisher, home, cid, moment = sys.argv[1:]
listed = DagShelf._write_list
def kill(*given, **named):
    os.kill(os.getpid(), signal.SIGKILL)
exec(moment)
fetch_dag(Store(Path(home)), [StoreSource(Store(Path(publisher)))], cid, "me")
"""


@pytest.fixture
def publisher(tmp_path: Path) -> Store:
    return Store(tmp_path / "publisher")


@pytest.fixture
def root(publisher: Store, dag: Dag) -> str:
    """A folder that is kept as blocks: it has a link in it."""
    file = dag.file(*(pattern(3000, seed) for seed in range(1, 6)))
    cid = dag.folder(a=file, link=dag.symlink(b"a"))
    take(publisher, dag.car(cid))
    return str(cid)


def fetched(store: Store, publisher: Store, cid: str) -> FetchedDag:
    return fetch_dag(store, [StoreSource(publisher)], cid, "me")


def names(store: Store, folder: str) -> list[str]:
    path = store.root / folder
    return [entry.name for entry in path.iterdir()] if path.exists() else []


def assert_whole(store: Store, cid: str) -> None:
    """It is here, once, and nothing lies beside it."""
    assert store.has_whole_dag(cid) and store.verify() == []
    assert names(store, "partial") == names(store, "staging") == []
    (pack,) = names(store, "packs")
    assert names(store, "lists") == [pack]


# ------------------------------------------------------------------ put in place, and not recorded


def killed(moment: str, store: Store, publisher: Store, cid: str) -> None:
    """Fetch in a process that is killed at a moment."""
    given = [str(publisher.root), str(store.root), cid, KILLED_WHILE[moment]]
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *given], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert store.ls() == []


@pytest.mark.parametrize("moment", KILLED_WHILE)
def test_a_pack_whose_writer_was_killed_is_found_again(moment: str, store: Store, publisher: Store, root: str) -> None:
    killed(moment, store, publisher, root)
    assert len(names(store, "packs")) == (0 if moment == "it is sealed" else 1)
    with store.dag_writer(resumes=f"{root}.dag"):
        assert (store.root / "partial" / f"{root}.dag" / "pack").stat().st_mode & 0o200, "not everybody is root"
    assert fetched(store, publisher, root).fetched_bytes == 0
    assert store.pins(root) == ["me"]
    assert_whole(store, root)


def test_a_pack_that_could_not_be_recorded_is_found_again(
    store: Store, publisher: Store, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(DagShelf, "insert", full)
    with pytest.raises(StoreError, match="no room"):
        fetched(store, publisher, root)
    monkeypatch.undo()
    assert names(store, "packs") == []
    assert fetched(store, publisher, root).fetched_bytes == 0
    assert_whole(store, root)


def test_a_pack_that_was_swept_before_it_was_looked_for_is_fetched_again(
    store: Store, publisher: Store, root: str
) -> None:
    killed("it is in place", store, publisher, root)
    (pack,) = (store.root / "packs").iterdir()
    pack.unlink()  # as any other import, or a gc, does
    assert fetched(store, publisher, root).fetched_bytes > 15_000
    assert_whole(store, root)


def test_what_was_handed_out_is_the_users_although_the_call_was_killed(
    store: Store, publisher: Store, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def kill(_: Path) -> None:
        raise KilledError

    artifact, out, source = publisher.add(model), tmp_path / "out", StoreSource(publisher)
    with monkeypatch.context() as moment:  # the files are in place, and still in partial/
        moment.setattr(outside, "sync_directory", kill)
        with pytest.raises(KilledError):
            fetch_files(artifact, {"config.json", "sub/weights.bin"}, out, store, [source])
    assert (out / "config.json").stat().st_nlink == 2
    with (out / "config.json").open("r+b") as mine:
        mine.write(b"my own")
    fetch_artifact(artifact, store, [source])
    assert (out / "config.json").read_bytes().startswith(b"my own")
    assert (store.get(artifact.cid) / "config.json").read_bytes() == (model / "config.json").read_bytes()
    assert store.verify() == []


# ------------------------------------------------------------------ two packs with one DAG


@pytest.mark.parametrize("largest_first", [True, False])
def test_of_two_packs_the_one_that_has_more_counts(
    largest_first: bool, store: Store, dag: Dag, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaf = dag.raw(b"a leaf that is not always here")
    root = dag.folder(a=dag.file(pattern(3000)), b=leaf, link=dag.symlink(b"a"))
    with monkeypatch.context() as killed:  # after the second was recorded, and before the first was swept
        killed.setattr(DagShelf, "sweep", lambda _: None)
        take(store, dag.car(root, without=[leaf]), partial=True)
        assert not store.has_whole_dag(str(root))
        take(store, dag.car(root))
    sizes = {name: (store.root / "packs" / name).stat().st_size for name in names(store, "packs")}
    assert len(sizes) == 2
    ordered = sorted(sizes, key=lambda name: sizes[name], reverse=largest_first)
    with monkeypatch.context() as any_order:
        any_order.setattr(Layout, "packs", lambda _: ordered)
        assert rebuild(store.layout).lost == ()
    assert store.has_whole_dag(str(root))
    store.gc()
    assert_whole(store, str(root))


# ------------------------------------------------------------------ mended


@pytest.fixture
def damaged(store: Store, dag: Dag, root: str) -> str:
    """The same DAG in our store, with two blocks that are not what they were."""
    take(store, dag.car(Cid.parse(root)))
    (name,) = names(store, "packs")
    pack = store.root / "packs" / name
    pack.chmod(0o644)
    with pack.open("r+b") as file:
        file.write(b"not this")
        file.seek(-8, 2)
        file.write(b"nor this")
    assert store.verify() != []
    return root


def test_nobody_waits_for_the_store_while_a_block_is_fetched(store: Store, publisher: Store, damaged: str) -> None:
    asked = []

    def fetch(cid: str) -> bytes:
        asked.append(cid)
        with (store.root / "store.lock").open() as whole, try_lock(store.root / "locks" / "packs.lock") as packs:
            fcntl.flock(whole, fcntl.LOCK_EX | fcntl.LOCK_NB)
            assert packs
        return publisher.block(cid)

    store.mend_blocks(damaged, fetch)
    assert len(asked) == 2
    assert_whole(store, damaged)


def test_what_was_removed_while_a_block_was_fetched_stays_removed(store: Store, publisher: Store, damaged: str) -> None:
    def fetch(cid: str) -> bytes:
        if store.ls():
            store.unpin(damaged, "test")
            store.remove(damaged)
        return publisher.block(cid)

    store.mend_blocks(damaged, fetch)
    assert store.ls() == [] and names(store, "packs") == []


def test_what_was_imported_anew_while_a_block_was_fetched_is_left_alone(
    store: Store, publisher: Store, dag: Dag, damaged: str
) -> None:
    before = names(store, "packs")

    def fetch(cid: str) -> bytes:
        if names(store, "packs") == before:
            take(store, dag.car(Cid.parse(damaged)))
        return publisher.block(cid)

    store.mend_blocks(damaged, fetch)
    assert names(store, "packs") != before
    assert_whole(store, damaged)


def test_what_is_damaged_again_is_not_called_mended(
    store: Store, publisher: Store, damaged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("citrate.registry.store.dags._Place.write", lambda *_: None)
    with pytest.raises(IntegrityError, match="is damaged in"):
        store.mend_blocks(damaged, publisher.block)
    assert store.verify() != []
