"""Our CIDs are Kubo's, for any tree that an artifact may be."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from citrate.registry import unixfs
from citrate.registry.profiles import V0Importer
from tests.fixtures_kubo import KuboNode, kubo_binary

pytestmark = pytest.mark.servers

MIB = 1 << 20
SIZES = [0, 1, 2, 1023, MIB - 1, MIB, MIB + 1, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1]
ALPHABETS = "az09._- ~#%&+()[]{}'\"!@$^,;=éßñøЖяЮ漢字かなカナ한글עבריתالعربيةไทยहिन्दी🍋🦀\u00a0"
names = st.text(st.sampled_from(ALPHABETS), min_size=1, max_size=30).filter(lambda name: name not in (".", ".."))
trees = st.recursive(
    st.sampled_from(SIZES), lambda below: st.dictionaries(names, below, min_size=1, max_size=6), max_leaves=12
).filter(lambda tree: isinstance(tree, dict))
counter = itertools.count()


def write(tree: object, path: Path) -> None:
    if isinstance(tree, int):
        path.write_bytes(os.urandom(1) * tree)
        return
    assert isinstance(tree, dict)
    path.mkdir()
    for name, below in tree.items():
        write(below, path / name)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(tree=trees)
def test_random_trees(tree: object, kubo: KuboNode, tmp_path: Path) -> None:
    path = tmp_path / str(next(counter))
    write(tree, path)
    assert [unixfs.address(path).cid] == kubo.only_hash(path)


@pytest.mark.parametrize("size", [*SIZES, 1024 * MIB - 1, 1024 * MIB, 1024 * MIB + 1])
def test_files_at_every_boundary(size: int, kubo: KuboNode, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(size)
    assert [unixfs.address(path).cid] == kubo.only_hash(path)


@pytest.mark.parametrize("count", [4700, 4766, 4767, 4800, 9000])
def test_directories_around_the_hamt_threshold(count: int, kubo: KuboNode, tmp_path: Path) -> None:
    below = tmp_path / "model" / "many"
    below.mkdir(parents=True)
    first = below / f"{0:011d}"
    first.write_bytes(b"x")
    for i in range(1, count):
        (below / f"{i:011d}").hardlink_to(first)
    (tmp_path / "model" / "漢字").write_bytes(b"y")
    assert [unixfs.address(tmp_path / "model").cid] == kubo.only_hash(tmp_path / "model")


def many_links(folder: Path, names: Iterable[str]) -> None:
    folder.mkdir()
    first = folder.parent / "first"
    first.write_bytes(b"x")
    for name in names:
        (folder / name).hardlink_to(first)


@pytest.mark.parametrize("bytes_over", [-1, 0, 1])
def test_a_directory_whose_block_is_exactly_at_the_threshold(bytes_over: int, kubo: KuboNode, tmp_path: Path) -> None:
    link_bytes, count = 55, 4766  # with names of 11 letters; the directory's own record takes 4 bytes
    longer = (256 << 10) + bytes_over - (count * link_bytes + 4)
    folder = tmp_path / "many"
    many_links(folder, [f"{i:011d}" for i in range(count - 1)] + ["x" * (11 + longer)])
    assert [unixfs.address(folder).cid] == kubo.only_hash(folder)


def test_a_sharded_directory_with_names_in_every_script(kubo: KuboNode, tmp_path: Path) -> None:
    letters = random.Random(3)
    folder = tmp_path / "many"
    many_links(folder, {f"{''.join(letters.choices(ALPHABETS, k=20))}{i}" for i in range(4000)})
    assert [unixfs.address(folder).cid] == kubo.only_hash(folder)


CHUNK_V0 = 256 << 10
SIZES_V0 = [0, 1, CHUNK_V0 - 1, CHUNK_V0, CHUNK_V0 + 1, 2 * CHUNK_V0, 3 * CHUNK_V0 - 1]


@pytest.fixture(scope="module")
def only_hash_v0(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """What Kubo makes of a path in the profile of 2015; how it measures a folder is a setting, so it has its own
    repository."""
    environment = {**os.environ, "IPFS_PATH": str(tmp_path_factory.mktemp("kubo-v0") / "repository")}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [kubo_binary(), *arguments], env=environment, check=True, capture_output=True, text=True, timeout=120
        )
        return done.stdout.split()[-1] if done.stdout.split() else ""

    run("init", "--profile=test,unixfs-v0-2015")
    return lambda path: run("add", "--only-hash", "-r", "--hidden", "--quiet", str(path))


trees_v0 = st.recursive(
    st.sampled_from(SIZES_V0), lambda below: st.dictionaries(names, below, min_size=1, max_size=6), max_leaves=12
).filter(lambda tree: isinstance(tree, dict))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(tree=trees_v0)
def test_random_trees_in_the_profile_of_2015(tree: object, only_hash_v0: Callable[[Path], str], tmp_path: Path) -> None:
    path = tmp_path / str(next(counter))
    write(tree, path)
    assert V0Importer().add(path).cid == only_hash_v0(path)


@pytest.mark.parametrize("size", [*SIZES_V0, 174 * CHUNK_V0 - 1, 174 * CHUNK_V0, 174 * CHUNK_V0 + 1, 400 * CHUNK_V0])
def test_files_at_every_boundary_of_the_profile_of_2015(
    size: int, only_hash_v0: Callable[[Path], str], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(size)
    assert V0Importer().add(path).cid == only_hash_v0(path)


@pytest.mark.parametrize("count", [4095, 4096, 4097])
def test_directories_around_the_hamt_threshold_of_2015(
    count: int, only_hash_v0: Callable[[Path], str], tmp_path: Path
) -> None:
    below = tmp_path / "model" / "many"
    below.mkdir(parents=True)
    first = below / f"{0:030d}"
    first.write_bytes(b"x")
    for i in range(1, count):
        (below / f"{i:030d}").hardlink_to(first)
    assert V0Importer().add(tmp_path / "model").cid == only_hash_v0(tmp_path / "model")
