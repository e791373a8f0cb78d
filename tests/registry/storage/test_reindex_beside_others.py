"""An index is built anew while others work: whoever changes the store waits for it, and loses nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from citrate.registry.store import Store, exclusion
from citrate.registry.store.rebuilding import rebuild
from tests.registry.storage.cars import Dag, take
from tests.registry.storage.conftest import CHUNK, pattern

BOUND_S = 60


def beside_a_rebuild(store: Store, work: Callable[[], object]) -> None:
    """Let another thread do something right after a rebuild has seen what there is; the rebuild goes on when it has
    been done, or shows no sign of being done soon."""
    other = threading.Thread(target=work, daemon=True)

    def progress(*_: object) -> None:
        if other.ident is None:
            other.start()
            other.join(0.5)

    rebuild(store.layout, progress)
    assert other.ident is not None
    other.join(BOUND_S)
    assert not other.is_alive()


@pytest.fixture
def filled(store: Store, model: Path) -> Store:
    store.pin(store.add(model).cid, "published")
    return store


def test_what_is_added_meanwhile_is_there_afterwards(filled: Store, tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(pattern(CHUNK + 1))
    added: list[str] = []

    def add() -> None:
        mine = Store(filled.root)
        added.append(mine.add(tmp_path / "new").cid)
        mine.pin(added[0], "added")

    beside_a_rebuild(filled, add)
    assert filled.pins(added[0]) == ["added"]
    assert filled.get(added[0]).read_bytes() == pattern(CHUNK + 1)
    assert filled.verify() == []


def test_what_is_imported_and_unpinned_meanwhile_too(filled: Store) -> None:
    dag = Dag()
    root = dag.folder(link=dag.symlink(b"x"))
    ((kept),) = filled.ls()

    def change() -> None:
        mine = Store(filled.root)
        take(mine, dag.car(root))
        mine.unpin(kept.cid, "published")

    beside_a_rebuild(filled, change)
    assert filled.pins(str(root)) == ["test"]
    assert filled.has_whole_dag(str(root))
    assert filled.pins(kept.cid) == []
    assert filled.verify() == []


def test_what_is_removed_meanwhile_stays_removed(filled: Store) -> None:
    going = filled.put_block(b"nobody needs this")
    beside_a_rebuild(filled, lambda: Store(filled.root).remove(going))
    assert not filled.has(going)
    assert filled.verify() == []


def test_who_changes_something_does_not_wait_for_others_who_do(filled: Store) -> None:
    done = threading.Event()

    def change() -> None:
        Store(filled.root).put_block(b"beside")
        done.set()

    with exclusion.changing(filled.root), exclusion.changing(filled.root):
        threading.Thread(target=change, daemon=True).start()
        assert done.wait(BOUND_S)


def test_who_waits_says_so(filled: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "citrate.store")
    waits, done = threading.Event(), threading.Event()

    class Heard(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            waits.set()

    def change() -> None:
        Store(filled.root).put_block(b"later")
        done.set()

    heard = Heard()
    logging.getLogger("citrate.store").addHandler(heard)
    try:
        with exclusion.rebuilding(filled.root):
            filled.put_block(b"who rebuilds may write")
            threading.Thread(target=change, daemon=True).start()
            assert waits.wait(BOUND_S)
            assert not done.is_set()
        assert done.wait(BOUND_S)
    finally:
        logging.getLogger("citrate.store").removeHandler(heard)
    assert "store reindex" in caplog.text


def test_a_rebuild_waits_for_those_who_are_at_work(filled: Store) -> None:
    done = threading.Event()

    def build() -> None:
        rebuild(filled.layout)
        done.set()

    with exclusion.changing(filled.root):
        threading.Thread(target=build, daemon=True).start()
        assert not done.wait(0.3)
    assert done.wait(BOUND_S)
