"""Damaged objects are named, refused, and made whole again from other sources; what is right of them is kept."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import httpx
import pytest

from citrate.core.errors import IntegrityError, StoreError
from citrate.registry.fetching import find_block
from citrate.registry.sources import StoreSource
from citrate.registry.store import Store
from citrate.registry.store.index import Receipt
from tests.e2e.machine import Machine
from tests.registry.storage.cars import Dag, take
from tests.registry.storage.conftest import CHUNK, Serve, pattern


def rot(store: Store, cid: str, path: str, offset: int) -> None:
    """Change a byte of a file as a disk does: nothing else of it changes, so no receipt tells of it."""
    file = store.root / "objects" / cid / path
    before = file.stat()
    file.chmod(0o644)
    descriptor = os.open(file, os.O_RDWR)
    (old,) = os.pread(descriptor, 1, offset)
    os.pwrite(descriptor, bytes([old ^ 4]), offset)
    os.close(descriptor)
    file.chmod(0o444)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    for indexed in store._index.files(cid):
        if indexed.entry.path == path:
            store._index.set_receipt(indexed.id, Receipt.of(file.stat()))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "home")


def test_a_manifest_that_is_damaged_here_is_taken_from_elsewhere(store: Store, tmp_path: Path) -> None:
    data, publisher = b'{"a": "manifest"}', Store(tmp_path / "publisher")
    cid = publisher.put_block(data)
    assert store.put_block(data) == cid
    store.pin(cid, "pulled me/x@1")
    rot(store, cid, cid, 3)
    with pytest.raises(IntegrityError, match="is damaged in the store"):
        find_block(cid, store, [])
    assert find_block(cid, store, [StoreSource(publisher)]) == data
    assert find_block(cid, store, []) == data
    assert store.pins(cid) == ["pulled me/x@1"]
    assert store.verify() == []
    with pytest.raises(StoreError, match="no source to ask"):
        find_block(cid, Store(tmp_path / "empty"), [])


def test_rot_that_no_receipt_tells_of_is_found_by_serving_and_refused_from_then_on(
    store: Store, model: Path, serve: Serve
) -> None:
    cid = store.add(model).cid
    store.pin(cid, "published")
    rot(store, cid, "sub/weights.bin", CHUNK + 5)
    store.get(cid)  # the receipt fits
    url = serve(store)
    leaf = store.artifact(cid).files[2].cid
    assert leaf.startswith("bafybei")
    with httpx.stream("GET", f"{url}/ipfs/{cid}/sub/weights.bin") as answer, pytest.raises(httpx.RemoteProtocolError):
        answer.read()
    assert store.stored(cid).damaged
    with pytest.raises(IntegrityError):
        store.get(cid)
    rot(store, cid, "sub/weights.bin", CHUNK + 5)  # back
    store.get(cid)
    assert not store.stored(cid).damaged


def test_damage_is_noted_although_somebody_else_is_writing_just_now(store: Store, model: Path) -> None:
    cid = store.add(model).cid
    path = store.get(cid) / "config.json"
    path.chmod(0o644)
    path.write_bytes(b"other")
    holds = threading.Event()

    def write() -> None:
        with Store(store.root)._index.writing():
            holds.set()
            time.sleep(0.5)

    writer = threading.Thread(target=write)
    writer.start()
    assert holds.wait(60)
    with pytest.raises(IntegrityError):
        store.get(cid)
    writer.join()
    assert store.stored(cid).damaged


def test_what_is_added_again_takes_the_place_of_what_is_damaged(store: Store, model: Path) -> None:
    cid = store.add(model).cid
    store.pin(cid, "published")
    path = store.get(cid) / "config.json"
    path.chmod(0o644)
    path.write_bytes(b"other")
    assert store.add(model).cid == cid
    assert store.verify() == []
    assert store.pins(cid) == ["published"]
    assert len(list((store.root / "damaged").iterdir())) == 1


def test_verify_repairs_from_a_gateway_and_keeps_what_is_right(
    machine: Machine, model: Path, serve: Serve, tmp_path: Path
) -> None:
    publisher = Store(tmp_path / "publisher")
    cid = publisher.add(model).cid
    dag = Dag()
    root = str(dag.folder(a=dag.file(*(pattern(3000, i) for i in range(4))), link=dag.symlink(b"a")))
    for store in (publisher, Store(machine.home / "store")):
        take(store, dag.car(*[block for block, _ in dag.blocks if str(block) == root]))
    url = serve(publisher)
    assert machine.gets("add", str(model))["cid"] == cid
    mine = Store(machine.home / "store")
    rot(mine, cid, "sub/weights.bin", 2 * CHUNK + 5)
    (pack,) = (mine.root / "packs").iterdir()
    pack.chmod(0o644)
    pack.write_bytes(pack.read_bytes()[:5000])

    found = machine.types("store", "verify", "--json")
    assert (found.code, found.json["ok"]) == (3, False)
    assert {row["cid"] for row in found.json["damaged"]} == {cid, root}
    assert "DAMAGED" in machine.types("store", "ls").out
    alone = machine.types("store", "verify", "--repair")
    assert alone.code == 3
    assert "no source" in alone.out

    mended = machine.types("store", "verify", "--repair", "--from", url, "--json")
    assert (mended.code, mended.json["ok"]) == (0, True), mended.out
    told = {row["cid"]: (row["source"], row["error"]) for row in mended.json["mended"]}
    assert told == {cid: (f"store, {url}", None), root: (url, None)}, "what was right came from the store itself"
    assert machine.gets("store", "verify")["damaged"] == []
    assert not any(row["damaged"] for row in machine.gets("store", "ls")["objects"])
    assert mine.pins(cid) == ["added"]
    assert b"".join(mine.cat(root, "a")) == b"".join(pattern(3000, i) for i in range(4))


def test_a_repair_that_nobody_has_the_bytes_for_leaves_the_object_refused(
    machine: Machine, model: Path, serve: Serve, tmp_path: Path
) -> None:
    cid = machine.gets("add", str(model))["cid"]
    rot(Store(machine.home / "store"), cid, "config.json", 1)
    url = serve(Store(tmp_path / "empty"))
    result = machine.types("store", "verify", "--repair", "--from", url)
    assert result.code == 3
    assert "FAILED" in result.out
    assert machine.types("store", "where", cid).code == 3
    assert machine.gets("add", str(model))["cid"] == cid
    assert machine.types("store", "where", cid).code == 0
