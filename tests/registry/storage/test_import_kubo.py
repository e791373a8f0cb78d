"""What the real Kubo exports makes the round trip through the store byte for byte."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from citrate.registry import reader
from citrate.registry.paths import find
from citrate.registry.store import Store
from tests.fixtures_kubo import KuboNode
from tests.registry.storage.cars import take
from tests.registry.storage.conftest import CHUNK, pattern

counter = itertools.count()


@pytest.mark.servers
@pytest.mark.parametrize(
    "options",
    [
        ("--cid-version=0",),
        ("--cid-version=1", "--raw-leaves", "--chunker=size-1048576", "--max-file-links=1024"),
        ("--cid-version=1", "--raw-leaves=false", "--chunker=size-1000", "--max-file-links=20"),
        ("--chunker=buzhash", "--raw-leaves"),
        ("--trickle", "--chunker=size-5000"),
        ("--hash=blake2b-256", "--cid-version=1"),
        ("--inline", "--inline-limit=64", "--cid-version=1"),
        ("--preserve-mode", "--preserve-mtime", "--raw-leaves=false"),
    ],
    ids=" ".join,
)
def test_what_kubo_adds_makes_the_round_trip_byte_for_byte(
    options: tuple[str, ...], kubo: KuboNode, store: Store, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "many").mkdir(parents=True)
    (source / "weights.bin").write_bytes(pattern(3 * CHUNK + 17))
    (source / "small").write_bytes(b"small")
    for i in range(1400):
        (source / "many" / (f"{i:04d}" + "n" * 180)).write_bytes(b"%d" % (i // 2))
    root = kubo.ipfs("add", "-rQ", *options, str(source))
    exported = kubo.ipfs_bytes("dag", "export", root)
    (found,) = take(store, exported)
    assert (found.stored.cid, found.stored.blocks == 0) == (root, "--max-file-links=1024" in options)
    assert b"".join(store.export_car(root)) == exported
    assert b"".join(store.cat(root, "weights.bin")) == pattern(3 * CHUNK + 17)
    assert b"".join(store.cat(root, "many/1234" + "n" * 180)) == b"617"
    assert root in kubo.ipfs("dag", "import", stdin=b"".join(store.export_car(root)))


SIZES = [0, 1, 255, 256, 257, 256 * 5 - 1, 256 * 5 + 1, 256 * 25 + 1]
names = st.text(st.sampled_from("az09._- ~#%&+'\"éЖ漢🍋"), min_size=1, max_size=20).filter(
    lambda n: n not in (".", "..")
)
trees = st.recursive(
    st.sampled_from(SIZES), lambda below: st.dictionaries(names, below, max_size=5), max_leaves=10
).filter(lambda tree: isinstance(tree, dict))
options = st.tuples(
    st.sampled_from(("--cid-version=0", "--cid-version=1")), st.sampled_from(("--raw-leaves", "--raw-leaves=false")),
    st.sampled_from(("--trickle=false", "--trickle")), st.sampled_from(("--max-file-links=5", "--max-file-links=174")),
    st.sampled_from(("--max-directory-links=0", "--max-directory-links=3")),
)  # fmt: skip


def write(tree: object, path: Path, files: dict[str, bytes], name: str = "") -> None:
    """Write a tree of sizes, and remember every file's bytes by its path."""
    if isinstance(tree, int):
        files[name] = pattern(tree, len(files))
        path.write_bytes(files[name])
        return
    assert isinstance(tree, dict)
    path.mkdir()
    for below, inside in tree.items():
        write(inside, path / below, files, f"{name}/{below}".lstrip("/"))


@pytest.mark.servers
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(tree=trees, chosen=options)
def test_random_trees_of_any_shape_make_the_round_trip(
    tree: object, chosen: tuple[str, ...], kubo: KuboNode, tmp_path: Path
) -> None:
    path, files = tmp_path / str(next(counter)), dict[str, bytes]()
    write(tree, path, files)
    root = kubo.ipfs("add", "-rQ", "--hidden", "--chunker=size-256", *chosen, str(path))
    exported = kubo.ipfs_bytes("dag", "export", root)
    store = Store(tmp_path / f"store-{path.name}")
    take(store, exported)
    assert b"".join(store.export_car(root)) == exported
    for name, content in files.items():
        assert b"".join(store.cat(root, name)) == content
        middle = len(content) // 2
        found = find(store.block, root, name)
        assert b"".join(reader.content(store.block, found.cid, middle, middle + 3)) == content[middle : middle + 3]


@pytest.mark.servers
@pytest.mark.parametrize("codec", ["dag-cbor", "dag-json"])
def test_documents_make_the_round_trip_byte_for_byte(codec: str, kubo: KuboNode, store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(pattern(CHUNK))
    file = kubo.ipfs("add", "-Q", str(tmp_path / "file"))
    document = b'{"z":{"/":"%b"},"b":[{"/":"bafkqabtimvwgy3yk"},1,null,true,1.5,-7,{"/":{"bytes":"AQI"}}],"a":{}}'
    root = kubo.ipfs("dag", "put", "--store-codec", codec, stdin=document % file.encode())
    exported = kubo.ipfs_bytes("dag", "export", root)
    take(store, exported)
    assert b"".join(store.export_car(root)) == exported
    assert b"".join(store.cat(root, "z")) == pattern(CHUNK)
