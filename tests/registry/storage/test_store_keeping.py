"""Who needs what, since when; what makes way by age and size, and what never does."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import pytest

from citrate.core.errors import ConfigError, NotFoundError, NotPermittedError, StoreError
from citrate.registry.cid import Cid
from citrate.registry.store import Store, blocks, removing
from citrate.registry.store.collecting import UNPINNED_SPARED_S
from citrate.registry.store.dags import StoredDag
from citrate.registry.store.pins import Pins, check_reason
from citrate.registry.store.rebuilding import rebuild
from tests.e2e.machine import Machine
from tests.registry.storage.cars import Dag, take

DAY_S = 86400


def block(store: Store, name: str, size: int = 1000, reason: str = "", unused_s: float = 0) -> str:
    """An object of ``size`` bytes, last used so long ago."""
    cid = store.put_block(name.encode().ljust(size, b"."))
    if reason:
        store.pin(cid, reason)
    backdate(store, cid, unused_s)
    return cid


def backdate(store: Store, cid: str, unused_s: float) -> None:
    at = int(time.time() - unused_s)
    with sqlite3.connect(store.root / "index.sqlite") as connection:
        connection.execute("UPDATE objects SET added_s = ?, used_s = ? WHERE cid = ?", (at, at, cid))


def cids(store: Store) -> set[str]:
    return {stored.cid for stored in store.ls()}


def test_a_pin_says_who_and_since_when(store: Store) -> None:
    before = int(time.time())
    cid = block(store, "a", reason="published me/x@1")
    store.pin(cid, "published me/x@1")
    store.pin(cid, "demo")
    (stored,) = store.ls()
    assert [pin.reason for pin in stored.pins] == ["demo", "published me/x@1"]
    assert all(before <= (pin.since_s or 0) <= time.time() for pin in stored.pins)
    assert stored == store.stored(cid)
    assert not stored.is_replaceable


def test_pins_of_an_older_citrate_are_kept(store: Store) -> None:
    cid = block(store, "a")
    with sqlite3.connect(store.root / "index.sqlite") as connection:
        connection.execute("INSERT INTO pins(cid, reason) VALUES(?, 'published')", (cid,))
    assert store.stored(cid).pins[0].since_s is None
    store.pin(cid, "demo")
    assert store.pins(cid) == ["demo", "published"]
    store.unpin(cid, "published")
    store.unpin(cid, "demo")
    assert store.pins(cid) == []
    assert store.gc()[0].cid == cid


@pytest.mark.parametrize("reason", ["", " ", "two\nlines", "x" * 201, "pulled me/x@1", "\x1b[31m"])
def test_a_reason_that_would_mislead_is_refused(reason: str) -> None:
    with pytest.raises(ConfigError):
        check_reason(reason)


def test_use_is_noted_once_an_hour_and_not_by_looking(store: Store) -> None:
    cid = block(store, "a", unused_s=3 * DAY_S)
    assert store.stored(cid).used_s < time.time() - 2 * DAY_S
    store.get(cid)
    noted = store.stored(cid).used_s
    assert noted > time.time() - 60
    backdate(store, cid, 1800)
    store.get(cid)
    assert store.stored(cid).used_s < time.time() - 1700
    backdate(store, cid, -10 * DAY_S)  # the clock was ahead, and is right again
    store.get(cid)
    assert abs(store.stored(cid).used_s - time.time()) < 60


def test_gc_alone_deletes_what_nobody_needs_and_nothing_that_was_pulled(store: Store) -> None:
    kept = {block(store, "p", reason="pulled me/x@1", unused_s=900 * DAY_S), block(store, "a", reason="added")}
    gone = block(store, "u")
    assert [stored.cid for stored in store.gc()] == [gone]
    assert cids(store) == kept


def test_gc_by_age_deletes_what_was_pulled_and_lies_unused(store: Store) -> None:
    old = block(store, "old", reason="pulled me/x@1", unused_s=31 * DAY_S)
    also_by_hand = block(store, "both", reason="pulled me/x@1", unused_s=31 * DAY_S)
    store.pin(also_by_hand, "by hand")
    new = block(store, "new", reason="pulled me/x@2", unused_s=29 * DAY_S)
    published = block(store, "mine", reason="published me/x@1", unused_s=400 * DAY_S)
    assert [stored.cid for stored in store.gc(older_than_s=30 * DAY_S, dry_run=True)] == [old]
    assert [stored.cid for stored in store.gc(older_than_s=30 * DAY_S)] == [old]
    assert cids(store) == {also_by_hand, new, published}
    assert store.pins(old) == []


def test_gc_by_size_deletes_the_least_recently_used_first_and_only_as_many_as_it_takes(store: Store) -> None:
    pulled = [block(store, f"p{i}", reason="pulled me/x@1", unused_s=i * DAY_S) for i in range(5)]
    kept = block(store, "k", reason="synced", unused_s=100 * DAY_S)
    assert [stored.cid for stored in store.gc(max_bytes=4000)] == [pulled[4], pulled[3]]
    assert cids(store) == {kept, *pulled[:3]}
    with pytest.raises(NotPermittedError, match=r"needed here has 1.0 kB, the limit is 999 B"):
        store.gc(max_bytes=999)
    assert cids(store) == {kept, *pulled[:3]}, "what cannot be reached deletes nothing"


class KilledError(BaseException):
    """The process is gone."""


def killed(*_: object) -> None:
    raise KilledError


def test_a_kill_before_its_files_are_deleted_leaves_nothing_of_what_was_pulled(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    cid = block(store, "p", reason="pulled me/x@1")
    monkeypatch.setattr(removing, "remove_tree", killed)
    with pytest.raises(KilledError):
        store.gc(older_than_s=0)
    monkeypatch.undo()
    assert (store.root / "objects" / cid).exists()
    assert (store.ls(), store.pins(cid), store.verify()) == ([], [], [])
    store.gc()
    assert not (store.root / "objects" / cid).exists()


def test_a_kill_before_its_pack_is_deleted_leaves_nothing_of_a_dag_that_was_pulled(
    store: Store, dag: Dag, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(dag.folder(link=dag.symlink(b"x")))
    take(store, dag.car(Cid.parse(root)))
    store.unpin(root, "test")
    store.pin(root, "pulled me/x@1")
    monkeypatch.setattr(store._shelf, "sweep", killed)
    with pytest.raises(KilledError):
        store.remove(root, pulled=True)
    monkeypatch.undo()
    assert list((store.root / "packs").iterdir())
    assert (store.ls(), store.pins(root), store.verify()) == ([], [], [])
    store.gc()
    assert not list((store.root / "packs").iterdir())


def test_a_block_that_is_removed_while_it_is_read_is_not_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    cid = block(store, "x")

    def removed_meanwhile(*_: object) -> bytes:
        store.remove(cid)
        return b""

    monkeypatch.setattr(blocks, "read_piece", removed_meanwhile)
    with pytest.raises(NotFoundError, match="is not in the store"):
        store.block(cid)


def test_a_list_is_of_one_moment(store: Store, dag: Dag, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(dag.folder(link=dag.symlink(b"x")))
    take(store, dag.car(Cid.parse(root)))
    store.unpin(root, "test")
    listed = store._shelf.ls

    def removed_meanwhile() -> list[StoredDag]:
        found = listed()
        store.remove(root)
        return found

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(store._shelf, "ls", removed_meanwhile)
        assert [stored.cid for stored in store.ls()] == [root]
    assert store.ls() == []


def test_what_a_rebuild_set_aside_and_what_others_put_there_goes_after_its_time(
    store: Store, dag: Dag, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(dag.folder(link=dag.symlink(b"x")))
    take(store, dag.car(Cid.parse(root)))
    store.unpin(root, "test")
    (pack,) = (store.root / "packs").iterdir()
    pack.unlink()
    pack.write_bytes(b"nothing of it")
    assert rebuild(store.layout).lost == (root,)
    kept = len(list((store.root / "damaged").iterdir()))
    assert {path.name.partition(".")[0] for path in (store.root / "damaged").iterdir()} == {pack.name, "index"}
    (store.root / "objects").mkdir(exist_ok=True)
    (store.root / "objects" / ".DS_Store").write_bytes(b"macOS was here")
    store.gc()
    assert len(list((store.root / "damaged").iterdir())) == kept, "somebody may want to know why"
    monkeypatch.setattr(removing, "DAMAGED_KEPT_S", -60)
    store.gc()
    for folder in ("damaged", "objects", "packs", "lists"):
        assert list((store.root / folder).iterdir()) == []


def test_what_cannot_be_forgotten_keeps_its_pins(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    cid = block(store, "p", reason="pulled me/x@1")
    noted = (store.root / "pins" / cid).read_bytes()

    def full(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr(store._index, "forget", full)
    with pytest.raises(StoreError, match="no room"):
        store.remove(cid, pulled=True)
    monkeypatch.undo()
    assert (store.root / "pins" / cid).read_bytes() == noted
    assert store.pins(cid) == ["pulled me/x@1"]
    assert store.verify() == []


def test_what_is_pinned_at_the_last_moment_stays(store: Store, dag: Dag, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = dag.folder(link=dag.symlink(b"x"))
    take(store, dag.car(folder))
    both = [block(store, "a"), str(folder)]
    store.unpin(str(folder), "test")
    removable = Pins.removable

    def pinned_right_afterwards(self: Pins, cid: str, *, pulled: bool) -> None:
        removable(self, cid, pulled=pulled)
        if not store.pins(cid):
            self.add(cid, "imported")  # as an import does, which asks for no object's lock

    monkeypatch.setattr(Pins, "removable", pinned_right_afterwards)
    for cid in both:
        with pytest.raises(NotPermittedError, match="pinned: imported"):
            store.remove(cid)
    monkeypatch.undo()
    assert [stored.cid for stored in store.ls()] == both
    assert store.verify() == []


def test_a_sweep_waits_for_nobody_whose_object_stands(store: Store) -> None:
    cid, done = block(store, "in use"), threading.Event()

    def sweep() -> None:
        Store(store.root)._remover._sweep()
        done.set()

    with store.layout.lock(cid):
        threading.Thread(target=sweep, daemon=True).start()
        assert done.wait(60)
    assert store.has(cid)


def test_room_is_made_before_something_comes(tmp_path: Path) -> None:
    told: list[str] = []
    store = Store(tmp_path / "store", max_bytes=3000, notify=told.append)
    pulled = [block(store, f"p{i}", reason="pulled me/x@1", unused_s=i * DAY_S) for i in range(3)]
    (tmp_path / "new").write_bytes(bytes(1500))
    cid = store.add(tmp_path / "new").cid
    assert cids(store) == {pulled[0], cid}
    assert told == ["made room: deleted 2 objects, 2.0 kB, the least recently used first"]
    store.pin(cid, "added")
    (tmp_path / "too much").write_bytes(bytes(1600))
    with pytest.raises(NotPermittedError) as caught:
        store.add(tmp_path / "too much")
    assert "cache_max_gb" in caught.value.hint
    assert cids(store) == {pulled[0], cid}, "a refusal deletes nothing"


def test_room_is_not_made_of_what_somebody_is_at_work_on(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", max_bytes=2000)
    converted = block(store, "just converted, not published yet", unused_s=UNPINNED_SPARED_S / 2)
    abandoned = block(store, "a dry run of last week", unused_s=7 * DAY_S)
    store.make_room(1000)
    assert cids(store) == {converted}
    with pytest.raises(NotPermittedError):
        store.make_room(1001)
    assert abandoned not in cids(store)


def test_room_is_not_made_of_what_is_needed_together_with_what_comes(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", max_bytes=3000)
    manifest = block(store, "its manifest", reason="pulled me/x@1#safetensors", unused_s=9 * DAY_S)
    variant = block(store, "another variant", reason="pulled me/x@1#safetensors", unused_s=DAY_S)
    store.make_room(1500, spared={manifest})
    assert cids(store) == {manifest}
    with pytest.raises(NotPermittedError):
        store.make_room(2500, spared={manifest})
    assert cids(store) == {manifest}
    assert variant not in cids(store)


def test_what_lies_beside_the_objects_is_counted_and_swept(store: Store) -> None:
    block(store, "a", reason="added")
    for place in ("partial/x", "staging/y", "objects/orphan", "damaged/old"):
        (store.root / place).mkdir(parents=True)
        (store.root / place / "file").write_bytes(bytes(500))
    (store.root / "packs").mkdir()
    (store.root / "packs" / "nobody's").write_bytes(bytes(500))
    assert store.leftover_bytes() == 2500
    store.gc()
    assert store.leftover_bytes() == 500, "what was damaged is kept for a week, for whoever wants to know why"
    assert store.verify() == []


def test_locks_of_what_is_gone_go_and_those_that_are_held_stay(store: Store) -> None:
    going, staying = block(store, "going"), block(store, "staying", reason="added")
    store.pin(going, "a while")
    store.unpin(going, "a while")
    with store.layout.lock("being-fetched.partial"):
        store.gc()
        names = {path.name for path in (store.root / "locks").iterdir()}
    assert f"{going}.lock" not in names
    assert {f"{staying}.lock", "being-fetched.partial.lock"} <= names


# ---------------------------------------------------------------- typed


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "home")


def test_ls_and_gc_as_a_user_sees_them(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(bytes(2_500_000))
    cid = machine.gets("add", str(tmp_path / "model.gguf"))["cid"]
    machine.gets("store", "pin", cid, "--reason", "demo")
    listed = machine.types("store", "ls")
    assert "2.5 MB" in listed.out
    assert "added (+1)" in listed.out
    assert "1 object, 2.5 MB" in listed.err
    (row,) = machine.gets("store", "ls")["objects"]
    assert [pin["reason"] for pin in row["pins"]] == ["added", "demo"]
    assert machine.gets("store", "unpin", cid, "--reason", "demo")["pins"] == ["added"]
    refused = machine.types("store", "rm", cid)
    assert (refused.code, "store unpin" in refused.err) == (1, True)
    refused = machine.types("store", "gc", "--max-size", "1MB")
    assert (refused.code, "has 2.5 MB, the limit is 1.0 MB" in refused.err) == (1, True)
    machine.gets("store", "unpin", cid)
    dry = machine.gets("store", "gc", "--dry-run")
    assert (dry["size_bytes"], dry["dry_run"]) == (2_500_000, True)
    assert machine.gets("store", "gc")["objects"][0]["cid"] == cid
    assert machine.gets("store", "ls")["size_bytes"] == 0


def test_a_full_home_refuses_what_does_not_fit(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(2_000_000))
    refused = machine.types("add", str(tmp_path / "large"), "--json", CITRATE_CACHE_MAX_GB="0.001")
    assert refused.code == 1
    assert "cache_max_gb" in str(refused.error["hint"])


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("gc", "--older-than", "soon"), 2),
        (("gc", "--max-size", "-1"), 2),
        (("verify", "--from", "https://gateway.example"), 2),
        (("where", "nonsense"), 2),
        (("rm", "../../etc"), 2),
        (("pin", "../../../escaped"), 2),
        (("unpin", "nonsense"), 2),
        (("export", "nonsense"), 2),
        (("pin", "x", "--reason", ""), 2),
    ],
)
def test_bad_wishes_are_one_line_and_a_hint(machine: Machine, arguments: tuple[str, ...], code: int) -> None:
    result = machine.types("store", *arguments)
    assert (result.code, result.out) == (code, ""), result.err
    assert [line.split(":")[0] for line in result.err.splitlines()] == ["error", "hint"]
    assert not list(machine.home.parent.rglob("*escaped*"))
