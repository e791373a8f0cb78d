"""CARs into the store: what becomes of a DAG, its pins, and how it is checked and mended."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest

from citrate.core.errors import FormatError, IntegrityError, NotFoundError, NotPermittedError
from citrate.core.records import FileEntry
from citrate.registry import cid as cids
from citrate.registry import dagcbor
from citrate.registry.cid import Cid
from citrate.registry.dag import directory
from citrate.registry.store import Store
from citrate.registry.store.importing import import_car
from tests.registry.storage.cars import Dag, assert_untouched, section, take, version_2
from tests.registry.storage.conftest import CHUNK, pattern
from tests.registry.storage.old_index import write_back


def test_our_own_export_comes_back_as_the_same_plain_files(store: Store, model: Path, tmp_path: Path) -> None:
    artifact = store.add(model)
    other = Store(tmp_path / "other")
    (found,) = take(other, b"".join(store.export_car(artifact.cid)))
    assert found.added
    assert (found.stored.cid, found.stored.sha256, found.stored.blocks) == (artifact.cid, artifact.sha256, 0)
    assert other.artifact(artifact.cid) == artifact
    assert (other.get(artifact.cid) / "sub" / "weights.bin").read_bytes() == pattern(3 * CHUNK + 17)
    assert other.pins(artifact.cid) == ["test"]
    assert not (other.root / "packs").exists()


def test_a_raw_block_becomes_a_file(store: Store, dag: Dag) -> None:
    root = dag.raw(b"manifest")
    (found,) = take(store, dag.car(root))
    assert found.stored.path.read_bytes() == b"manifest"
    assert store.put_block(b"manifest") == str(root)


def test_a_foreign_file_stays_readable_and_exports_as_it_came(store: Store, dag: Dag) -> None:
    root = dag.folder(a=dag.file(b"one ", b"two"), link=dag.symlink(b"a"))
    data = dag.car(root)
    (found,) = take(store, data)
    assert (found.stored.sha256, found.stored.blocks, found.stored.whole) == ("", 5, True)
    assert b"".join(store.cat(str(root), "a")) == b"one two"
    exported = b"".join(store.export_car(str(root)))
    assert sorted(exported) == sorted(data)  # the same blocks, depth first
    assert take(store, exported)[0].added is False
    with pytest.raises(NotFoundError, match="kept as blocks"):
        store.get(str(root))
    with pytest.raises(FormatError, match="symbolic link"):
        store.cat(str(root), "link")


@pytest.mark.parametrize(
    ("path", "fits"),
    [
        ("n" * 255, True),
        ("n" * 256, False),
        ("ä" * 128, False),
        ("/".join(["d" * 200] * 15), True),
        ("/".join(["d" * 200] * 20), False),
    ],
)
def test_a_name_that_no_file_can_have_is_kept_as_blocks(store: Store, dag: Dag, path: str, fits: bool) -> None:
    leaf = dag.raw(b"bytes")
    folder = directory([FileEntry(path, 5, "0" * 64, str(leaf))]).root
    for node in folder.nodes:
        dag.put(cids.DAG_PB, node.block)
    (found,) = take(store, dag.car(Cid.parse(folder.cid)))
    assert (found.stored.cid, found.stored.blocks == 0) == (folder.cid, fits)
    assert b"".join(store.cat(folder.cid, path)) == b"bytes"
    assert store.verify() == []


def test_documents_and_inline_blocks_are_followed(store: Store, dag: Dag) -> None:
    inline = Cid(1, cids.RAW, cids.IDENTITY, b"inside its CID")
    far = dag.raw(b"far")
    document = dag.json({"far": {"/": str(far)}, "near": [{"/": str(inline)}], "bytes": {"/": {"bytes": "AQI"}}})
    (found,) = take(store, dag.car(document))
    assert found.stored.blocks == 2
    assert b"".join(store.cat(str(document), "far")) == b"far"
    assert b"".join(store.cat(str(document), "near/0")) == b"inside its CID"
    with pytest.raises(FormatError, match="into a document"):
        store.cat(str(document), "bytes")


def test_every_hash_that_ipfs_uses_is_checked(store: Store) -> None:
    for code, length in ((0x12, 32), (0x13, 64), (0x14, 64), (0x16, 32), (0x11, 20), (0xB220, 32), (0xB260, 32)):
        probe = Cid(1, cids.RAW, code, b"")
        cid = Cid(1, cids.RAW, code, probe.hash(b"block")[:length])
        (found,) = take(store, dagcbor.car_header([cid]) + section(cid, b"block"))
        assert store.block(found.stored.cid) == b"block"
        with pytest.raises(IntegrityError):
            take(store, dagcbor.car_header([cid]) + section(cid, b"blocK"))


def test_a_block_is_found_under_every_codec_and_version(store: Store, dag: Dag) -> None:
    root = dag.file(b"a", b"b", version=0)
    take(store, dag.car(root))
    for other in (Cid(1, cids.DAG_PB, root.hash_code, root.digest), Cid(1, cids.RAW, root.hash_code, root.digest)):
        assert store.block(str(other)) == store.block(str(root))
        assert store.owners(str(other)) == [str(root)]


def test_several_roots_and_what_no_root_leads_to(store: Store, dag: Dag) -> None:
    shared = dag.raw(b"shared")
    one, two = dag.folder(x=shared), dag.folder(y=shared, z=dag.symlink(b"x"))
    dag.raw(b"nobody's")
    found = take(store, dag.car(one, two, one))
    assert [item.stored.cid for item in found] == [str(one), str(two)]
    assert [bool(item.stored.blocks) for item in found] == [False, True]  # the first is what citrate itself writes
    with pytest.raises(NotFoundError):
        store.block(cids.of(cids.RAW, b"nobody's"))
    store.unpin(str(one), "test")
    assert [gone.cid for gone in store.gc()] == [str(one)]
    assert b"".join(store.cat(str(two), "y")) == b"shared"


def test_a_root_that_is_its_own_content_may_lead_somewhere_or_nowhere(store: Store, dag: Dag) -> None:
    leaf = dag.raw(b"far")
    empty = Cid(1, cids.RAW, cids.IDENTITY, b"")
    inline = Cid(1, cids.DAG_CBOR, cids.IDENTITY, b"\xa1\x61x\xd8\x2a\x58\x25\x00" + leaf.binary)
    (found,) = take(store, dag.car(empty, inline))
    assert (found.stored.cid, found.stored.blocks) == (str(inline), 1)
    assert b"".join(store.cat(str(inline), "x")) == b"far"
    assert store.verify() == []
    with pytest.raises(FormatError, match="nothing to keep"):
        take(store, dag.car(empty))


def test_version_2_is_read_and_pieces_of_any_size(store: Store, dag: Dag) -> None:
    root = dag.folder(link=dag.symlink(b"x"))

    class Trickle(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 3))

    (found,) = import_car(store, Trickle(version_2(dag.car(root))), "test")
    assert found.stored.cid == str(root)


def test_missing_blocks_are_taken_from_the_store(store: Store, dag: Dag) -> None:
    leaf, link = dag.raw(b"here already"), dag.symlink(b"x")
    take(store, dag.car(leaf))
    root = dag.folder(leaf=leaf, link=link)
    take(store, dag.car(root, without=[leaf]))
    store.unpin(str(leaf), "test")
    store.gc()
    assert b"".join(store.cat(str(root), "leaf")) == b"here already"


def test_a_part_of_a_dag_is_kept_when_asked_for_and_completed_later(store: Store, dag: Dag) -> None:
    root = dag.file(b"one", b"two", b"three")
    lost = dag.blocks[1][0]
    with pytest.raises(FormatError, match="not whole") as caught:
        take(store, dag.car(root, without=[lost]))
    assert "--partial" in caught.value.hint
    assert_untouched(store)
    (found,) = take(store, dag.car(root, without=[lost]), partial=True)
    assert (found.stored.whole, found.stored.blocks) == (False, 3)
    with pytest.raises(NotFoundError):
        list(store.cat(str(root)))
    (found,) = take(store, dag.car(root))
    assert found.stored.whole
    assert b"".join(store.cat(str(root))) == b"onetwothree"
    assert len(list((store.root / "packs").iterdir())) == 1
    with pytest.raises(FormatError, match="not whole"):
        take(Store(store.root / "other"), dag.car(root, without=[root]), partial=True)


def test_pins_gc_and_verify_know_dags(store: Store, dag: Dag) -> None:
    root = dag.folder(link=dag.symlink(b"x"))
    take(store, dag.car(root))
    with pytest.raises(NotPermittedError, match="pinned: test"):
        store.remove(str(root))
    assert store.verify() == []
    store.pin(str(root), "another")
    store.unpin(str(root), "test")
    assert store.gc() == []
    store.unpin(str(root), "another")
    assert [gone.cid for gone in store.gc(dry_run=True)] == [str(root)]
    assert [gone.cid for gone in store.gc()] == [str(root)]
    assert list((store.root / "packs").iterdir()) == []
    assert store.ls() == []


def test_a_flipped_bit_is_named_never_served_and_mended_by_another_import(store: Store, dag: Dag) -> None:
    root = dag.folder(a=dag.file(b"x" * 100, b"y" * 100), link=dag.symlink(b"x"))
    (found,) = take(store, dag.car(root))
    for at in random.Random(3).sample(range(found.stored.size_bytes), 20):
        pack = store.stored(str(root)).path
        pack.chmod(0o644)
        sound = bytearray(pack.read_bytes())
        sound[at] ^= 1 << at % 8
        pack.write_bytes(sound)
        (damage,) = store.verify()
        assert isinstance(damage, IntegrityError)
        with pytest.raises(IntegrityError):
            list(store.export_car(str(root)))
        assert take(store, dag.car(root))[0].added
        assert store.verify() == []
    assert len(list((store.root / "packs").iterdir())) == 1


def test_a_damaged_plain_object_is_replaced_by_an_import(store: Store, model: Path) -> None:
    artifact = store.add(model)
    data = b"".join(store.export_car(artifact.cid))
    victim = store.get(artifact.cid) / "config.json"
    victim.chmod(0o644)
    victim.write_bytes(b'{"a": 2}')
    assert take(store, data)[0].added
    assert store.verify() == []
    assert victim.read_bytes() == b'{"a": 1}'


def test_an_index_of_the_first_format_is_brought_up(store: Store, model: Path, dag: Dag) -> None:
    artifact = store.add(model)
    write_back(store.root / "index.sqlite", 1)
    opened = Store(store.root)
    assert [item.cid for item in opened.ls()] == [artifact.cid]
    root = dag.symlink(b"x")
    take(opened, dag.car(root))
    assert {item.cid for item in opened.ls()} == {artifact.cid, str(root)}
