"""Files cut at their tensors: written, kept, served, imported, read back; and trees that no such file has."""

from __future__ import annotations

import hashlib
import random
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citrate.core.errors import FormatError, IntegrityError
from citrate.core.records import TENSOR_PROFILE, FileEntry
from citrate.registry import cid as cids
from citrate.registry import cut_dag, dag, dagpb
from citrate.registry.cut_dag import file_dag, is_possible, read_leaves
from citrate.registry.cutting import GivenCuts, TensorCuts, tensor_ends
from citrate.registry.dagpb import Link
from citrate.registry.doublehash import double_hash
from citrate.registry.fetching import fetch_artifact
from citrate.registry.leaves import Leaves
from citrate.registry.sources import GatewaySource
from citrate.registry.store import Store
from citrate.registry.store.index import Index
from citrate.registry.store.rebuilding import rebuild
from citrate.registry.unixfs import address
from tests.registry.storage.cars import take
from tests.registry.storage.conftest import CHUNK, Serve, pattern
from tests.registry.storage.old_index import write_back
from tests.registry.storage.tensor_files import MIB, gguf, reference_cid, reference_ends, safetensors
from tests.registry.storage.test_tensor_rule import vector_file, vectors

TENSORS = {f"t{n}": pattern(2 * n + 62, n) for n in range(9)} | {"big": pattern(5 * MIB // 2, 9)}


@pytest.fixture(scope="module")
def many() -> bytes:
    """A file of more leaves than one inner node has."""
    return safetensors({f"{n}": n.to_bytes(4, "little") for n in range(1100)})


@pytest.fixture
def folder(tmp_path: Path, many: bytes) -> Path:
    """A model: tensors in both containers and in many leaves, a header that is none, and files of other kinds."""
    root = tmp_path / "folder"
    (root / "sub").mkdir(parents=True)
    (root / "model.safetensors").write_bytes(safetensors(TENSORS, {"format": "pt"}))
    (root / "model.gguf").write_bytes(gguf(TENSORS))
    (root / "sub/many.bin").write_bytes(many)
    (root / "broken.safetensors").write_bytes(safetensors(TENSORS).replace(b"shape", b"shepa"))
    (root / "config.json").write_bytes(b"{}")
    (root / "empty").write_bytes(b"")
    return root


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: str(vector["what"]))
def test_the_vectors_of_the_decision_have_these_cids(vector: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "anything"
    path.write_bytes(vector_file(vector))
    assert address(path, profile=TENSOR_PROFILE).cid == vector["cid"]


def test_every_way_of_writing_gives_the_cid_of_the_reference(store: Store, folder: Path) -> None:
    hashed = address(folder, profile=TENSOR_PROFILE)
    added = store.add(folder, profile=TENSOR_PROFILE)
    assert hashed == added
    draw = random.Random(7)
    with Store(store.root.with_name("sinks")).writer(bare=False, profile=TENSOR_PROFILE) as sink:
        for entry in added.files:
            data = (folder / entry.path).read_bytes()
            assert entry.cid == reference_cid(data, reference_ends(data))
            file, at = sink.open(entry.path, draw.choice([None, len(data)])), 0
            while at < len(data):
                step = draw.choice([1, 7, 4096, CHUNK - 1, 3 * CHUNK])
                file.write(data[at : at + step])
                at += step
            file.close()
        assert sink.commit() == added
    cut = {entry.path for entry in added.files if entry.tsize is not None}
    assert cut == {"model.safetensors", "model.gguf", "sub/many.bin"}


def test_files_without_tensors_are_the_same_in_both_profiles(folder: Path) -> None:
    usual, cut = address(folder), address(folder, profile=TENSOR_PROFILE)
    assert {a.path for a, b in zip(usual.files, cut.files, strict=True) if a == b} == {
        "broken.safetensors", "config.json", "empty",
    }  # fmt: skip
    assert (usual.sha256, usual.size_bytes) == (cut.sha256, cut.size_bytes)
    assert usual.cid != cut.cid


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 99), max_size=40), st.lists(st.integers(1, 5000), max_size=30))
def test_pieces_of_any_length_have_the_same_hashes(sizes: list[int], pieces: list[int]) -> None:
    data = safetensors({f"{n}": bytes([n]) * 2 * size for n, size in enumerate(sizes)})
    ends = reference_ends(data)
    hashes, at = double_hash(None, cuts=TensorCuts()), 0
    for length in [*pieces, len(data)]:
        hashes.update(memoryview(bytearray(data[at : at + length])))
        at += length
    hashes.finish()
    assert hashes.hexdigest() == hashlib.sha256(data).hexdigest()
    assert list(hashes.ends or ()) == ends
    expected = [hashlib.sha256(data[b:e]).digest() for b, e in zip([0, *ends], ends, strict=False)]
    assert bytes(hashes.leaves) == b"".join(expected)


def test_every_block_of_such_a_file_is_served_and_every_byte_comes_back(store: Store, folder: Path) -> None:
    added = store.add(folder, profile=TENSOR_PROFILE)
    for entry in added.files:
        data = (folder / entry.path).read_bytes()
        assert b"".join(store.cat(entry.cid)) == data
        if entry.tsize is not None:
            leaves = read_leaves(store.block, entry)
            assert list(leaves.ends or ()) == reference_ends(data)
            assert all(store.block(cids.encode(cids.RAW, leaf.digest)) for leaf in leaves)
    assert store.artifact(added.cid) == added
    assert store.verify() == []
    (item,) = store.ls()
    assert (item.cid, item.sha256) == (added.cid, added.sha256)


def test_the_index_gives_back_the_leaves(store: Store, folder: Path) -> None:
    added = store.add(folder, profile=TENSOR_PROFILE)
    index = Index(store.layout.index)
    for file in index.files(added.cid):
        data = (folder / file.entry.path).read_bytes()
        leaves = index.leaves(file)
        assert [leaf.end for leaf in leaves] == reference_ends(data) if data else len(leaves) == 1
        assert (leaves.ends is None) == (file.entry.tsize is None)
        assert all(hashlib.sha256(data[leaf.offset : leaf.end]).digest() == leaf.digest for leaf in leaves)


@pytest.mark.parametrize("version", [1, 2])
def test_an_index_of_an_earlier_release_is_brought_up(version: int, store: Store, model: Path, folder: Path) -> None:
    old = store.add(model)
    store.pin(old.cid, "old")
    write_back(store.layout.index, version)
    opened = Store(store.root)
    assert opened.artifact(old.cid) == old
    assert opened.pins(old.cid) == ["old"]
    assert b"".join(opened.export_car(old.cid)) == b"".join(Store(store.root).export_car(old.cid))
    new = opened.add(folder, profile=TENSOR_PROFILE)
    assert b"".join(opened.cat(new.cid, "model.gguf")) == (folder / "model.gguf").read_bytes()
    assert opened.verify() == []


def test_an_index_is_built_anew_of_what_is_cut(store: Store, folder: Path, many: bytes, tmp_path: Path) -> None:
    bare = tmp_path / "no suffix"
    bare.write_bytes(many)
    added = [store.add(path, profile=TENSOR_PROFILE) for path in (folder, bare)]
    store.layout.index.unlink()
    rebuild(store.layout)
    opened = Store(store.root)
    assert [opened.artifact(artifact.cid) for artifact in added] == added
    assert b"".join(opened.cat(added[1].cid)) == many


def test_an_exported_car_comes_back_as_the_same_plain_files(store: Store, folder: Path, tmp_path: Path) -> None:
    added = store.add(folder, profile=TENSOR_PROFILE)
    other = Store(tmp_path / "other")
    (found,) = take(other, b"".join(store.export_car(added.cid)))
    assert (found.stored.cid, found.stored.blocks) == (added.cid, 0)
    assert other.artifact(added.cid) == added
    bare = store.add(folder / "model.gguf", profile=TENSOR_PROFILE)
    (found,) = take(other, b"".join(store.export_car(bare.cid)))
    assert (found.stored.sha256, found.stored.blocks) == (bare.sha256, 0)


def test_a_car_that_is_cut_elsewhere_stays_blocks(store: Store) -> None:
    data = safetensors(TENSORS)
    ends = sorted({*reference_ends(data), 100})
    tree, _ = built(data, ends)
    blocks = [(b"\x01\x70\x12\x20" + node.digest, node.block) for node in reversed(tree.nodes)]
    for begin, end in zip([0, *ends], ends, strict=False):
        blocks.append((b"\x01\x55\x12\x20" + hashlib.sha256(data[begin:end]).digest(), data[begin:end]))
    root = b"\x3a\xa2\x65roots\x81\xd8\x2a\x58\x25\x00" + tree.binary_cid + b"\x67version\x01"
    car = root + b"".join(dagpb.varint(len(cid + block)) + cid + block for cid, block in blocks)
    (found,) = take(store, car)
    assert found.stored.blocks == len(blocks)
    assert b"".join(store.cat(tree.cid)) == data


def test_a_folder_that_is_cut_in_part_stays_blocks(store: Store, folder: Path, tmp_path: Path) -> None:
    with store.writer(bare=False) as sink:
        for name, cuts in (("a", TensorCuts()), ("b", None)):
            file = sink.open(name, cuts=cuts)
            file.write((folder / "model.gguf").read_bytes())
            file.close()
        mixed = sink.commit()
    (found,) = take(Store(tmp_path / "other"), b"".join(store.export_car(mixed.cid)))
    assert found.stored.blocks


@pytest.mark.parametrize("cuts", [[100], [6, 206]])
def test_files_that_are_cut_as_no_profile_says_are_not_taken(
    cuts: list[int], store: Store, folder: Path, serve: Serve, tmp_path: Path
) -> None:
    data = (folder / "model.gguf").read_bytes()
    with store.writer(bare=True) as sink:
        file = sink.open("model.gguf", cuts=GivenCuts(sorted({*cuts, *range(MIB, len(data), MIB)})))
        file.write(data)
        file.close()
        made = sink.commit()
    reader = Store(tmp_path / "reader")
    with pytest.raises(IntegrityError, match=TENSOR_PROFILE):
        fetch_artifact(made, reader, [GatewaySource(serve(store))])
    assert reader.ls() == []


# ---------------------------------------------------------------------- trees


def built(data: bytes, ends: list[int]) -> tuple[dag.Dag, Callable[[str], bytes]]:
    """The tree of a file that is cut there, and what reads its inner nodes."""
    digests = b"".join(hashlib.sha256(data[b:e]).digest() for b, e in zip([0, *ends], ends, strict=False))
    tree = file_dag(Leaves(len(data), digests, array("Q", ends)))
    nodes = {cids.encode(cids.DAG_PB, node.digest): node.block for node in tree.nodes}
    return tree, nodes.__getitem__


def entry_of(tree: dag.Dag, size: int) -> FileEntry:
    return FileEntry("a", size, "0" * 64, tree.cid, tree.tsize)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.sets(st.integers(1, 2999)))
def test_a_tree_is_the_reference_s_and_reads_back(size: int, cuts: set[int]) -> None:
    data, ends = bytes(size), [*sorted(cut for cut in cuts if cut < size), size]
    tree, read = built(data, ends)
    assert tree.cid == reference_cid(data, ends)
    if len(ends) > 1:
        assert list(read_leaves(read, entry_of(tree, size)).ends or ()) == ends


@pytest.mark.parametrize("count", [1024, 1025, 5000, 5001])
def test_trees_of_several_levels_read_back_up_to_a_bound(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut_dag, "LEAVES_BESIDE_MAX", 4999)
    ends = list(range(1, count + 1))
    digests = b"".join(n.to_bytes(32, "big") for n in range(count))
    tree = file_dag(Leaves(count, digests, array("Q", ends)))
    nodes = {cids.encode(cids.DAG_PB, node.digest): node.block for node in tree.nodes}
    if count > 5000:
        with pytest.raises(FormatError, match="no inner node"):
            read_leaves(nodes.__getitem__, entry_of(tree, count))
    else:
        found = read_leaves(nodes.__getitem__, entry_of(tree, count))
        assert (found.digests, list(found.ends or ())) == (digests, ends)


def test_the_usual_leaves_have_the_usual_tree() -> None:
    size = 3 * MIB + 5
    tree, read = built(bytes(size), [MIB, 2 * MIB, 3 * MIB, size])
    zeros = hashlib.sha256(bytes(MIB)).digest() * 3 + hashlib.sha256(bytes(5)).digest()
    assert tree == dag.file_dag(zeros, size)
    assert read_leaves(read, entry_of(tree, size)) == Leaves(size, zeros)
    assert read_leaves(read, replace(entry_of(tree, size), tsize=None)) == Leaves(size, zeros)


LEAF = b"\x01\x55\x12\x20" + bytes(32)


def node(parts: list[tuple[bytes, int, int]], kind: int = 2) -> tuple[bytes, int, int]:
    """CID, size and Tsize of a node over (CID, size, Tsize); its block goes into ``BLOCKS``."""
    data = dagpb.file_data([size for _, size, _ in parts])
    block = dagpb.encode([Link(cid, b"", tsize) for cid, _, tsize in parts], bytes([8, kind]) + data[2:])
    cid = cids.to_bytes(cids.DAG_PB, hashlib.sha256(block).digest())
    BLOCKS[cids.encode(*cids.from_bytes(cid))] = block
    return cid, sum(size for _, size, _ in parts), len(block) + sum(tsize for _, _, tsize in parts)


BLOCKS: dict[str, bytes] = {}
SMALL = (LEAF, 5, 5)
FULL = [SMALL] * 1024


@pytest.mark.parametrize(
    "root",
    [
        node([SMALL]),
        node([(LEAF, 0, 0), SMALL]),
        node([(LEAF, MIB + 1, MIB + 1), SMALL]),
        node([(LEAF, 5, 6), SMALL]),
        node([SMALL] * 1025),
        node([node([SMALL, SMALL]), SMALL]),
        node([SMALL, node([SMALL, SMALL])]),
        node([node([SMALL] * 1023), node([SMALL])]),
        node([node(FULL), node([node([SMALL])])]),
        node([node([node([SMALL, SMALL])])]),
        node([SMALL, SMALL], kind=1),
        node([SMALL, SMALL], kind=0),
        (*node([SMALL, SMALL])[:2], 99),
        (node([SMALL, SMALL])[0], 11, node([SMALL, SMALL])[2]),
        (LEAF, 5, 5),
    ],
    ids=[
        "one child", "an empty leaf", "a leaf of more than 1 MiB", "a leaf with another Tsize", "too many links",
        "a leaf beside a node", "a node beside a leaf", "a node that is not full", "leaves of two depths",
        "nodes of one child", "a directory", "raw data", "another Tsize", "another size", "no tree",
    ],
)  # fmt: skip
def test_trees_that_citrate_does_not_write_are_refused(root: tuple[bytes, int, int]) -> None:
    cid, size, tsize = root
    with pytest.raises(FormatError):
        read_leaves(BLOCKS.__getitem__, FileEntry("a", size, "0" * 64, cids.encode(*cids.from_bytes(cid)), tsize))


def test_a_tree_that_unfolds_without_end_is_refused_before_it_does() -> None:
    level = (LEAF, 1, 1)
    for _ in range(4):  # 2^40 leaves of one byte, from four blocks
        level = node([level] * 1024)
    asked: list[str] = []

    def read(cid: str) -> bytes:
        asked.append(cid)
        return BLOCKS[cid]

    with pytest.raises(FormatError):
        read_leaves(read, FileEntry("a", level[1], "0" * 64, cids.encode(*cids.from_bytes(level[0])), level[2]))
    assert len(asked) <= 3


def test_what_an_entry_says_must_be_possible() -> None:
    tree, _ = built(bytes(9), [4, 9])
    small = FileEntry("a", 9, hashlib.sha256(bytes(9)).hexdigest(), cids.of(cids.RAW, bytes(9)))
    assert is_possible(entry_of(tree, 9))
    assert is_possible(small)
    assert not is_possible(replace(entry_of(tree, 9), tsize=None))
    assert not is_possible(replace(entry_of(tree, 9), tsize=9))
    assert not is_possible(replace(small, tsize=100))
    assert not is_possible(replace(small, sha256="0" * 64))


def test_the_ends_of_a_file_follow_from_its_header() -> None:
    for data in (safetensors(TENSORS), gguf(TENSORS), b"x" * (2 * MIB), b"x"):
        header = [data[at : at + 50] for at in range(0, len(data), 50)]
        taken: list[bytes] = []
        assert list(tensor_ends((taken.append(piece) or piece for piece in header), len(data))) == reference_ends(data)
        assert len(taken) * 50 < 2000
