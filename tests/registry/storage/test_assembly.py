"""A file put together out of order: the same hashes as in order, whoever brings which leaf, and nothing wrong in it."""

from __future__ import annotations

import hashlib
import random
import threading
from array import array
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citrate.core.errors import IntegrityError
from citrate.core.records import FileEntry
from citrate.registry import cut_dag, paired
from citrate.registry.fetching.assembly import Assembly
from citrate.registry.fetching.fronthash import FrontHash, PairedFrontHash
from citrate.registry.leaves import Leaves
from citrate.registry.store.index import StagedFile
from tests.registry.storage.conftest import CHUNK, pattern

CONTENT = pattern(7 * CHUNK + 100)


def cut(content: bytes, ends: list[int] | None = None) -> Leaves:
    """The leaves of a file, every mebibyte or where ``ends`` says."""
    at = [0, *(ends or [*range(CHUNK, len(content), CHUNK), len(content)])]
    digests = b"".join(hashlib.sha256(content[a:b]).digest() for a, b in pairwise(at))
    return Leaves(len(content), digests, array("Q", ends) if ends else None)


def assembly(tmp_path: Path, leaves: Leaves, sha256: str = "") -> Assembly:
    dag = cut_dag.file_dag(leaves)
    tsize = dag.tsize if leaves.ends is not None else None
    entry = FileEntry("a.bin", leaves.size_bytes, sha256 or hashlib.sha256(CONTENT).hexdigest(), dag.cid, tsize)
    return Assembly(entry, leaves, tmp_path, tmp_path / "a.bin")


def bring(into: Assembly, first: int, stop: int) -> tuple[int, bool]:
    start, end = into.leaves.offset(first), into.leaves.offset(stop)
    return into.put(first, stop, memoryview(bytearray(CONTENT[start:end])))


ELSEWHERE = [10, 5000, CHUNK, 2 * CHUNK - 3, 2 * CHUNK, *range(3 * CHUNK, 8 * CHUNK, CHUNK), len(CONTENT)]


@pytest.mark.parametrize("ends", [None, ELSEWHERE])
def test_any_order_gives_the_same_file(tmp_path: Path, ends: list[int] | None) -> None:
    leaves = cut(CONTENT, ends)
    for seed in range(8):
        order = list(range(len(leaves)))
        random.Random(seed).shuffle(order)
        (tmp_path / str(seed)).mkdir()
        into = assembly(tmp_path / str(seed), leaves)
        sealed: list[StagedFile] = []
        for number in order:
            _, due = bring(into, number, number + 1)
            if due and (staged := into.follow()) is not None:
                sealed.append(staged)
        assert [staged.entry for staged in sealed] == [into.entry]
        assert into.path.read_bytes() == CONTENT


def test_several_threads_may_bring_the_same_leaves(tmp_path: Path) -> None:
    into = assembly(tmp_path, cut(CONTENT))
    sealed: list[StagedFile] = []
    brought: list[int] = []

    def work(seed: int) -> None:
        order = list(range(len(into.leaves)))
        random.Random(seed).shuffle(order)
        for number in order:
            new_bytes, due = bring(into, number, number + 1)
            brought.append(new_bytes)
            if due and (staged := into.follow()) is not None:
                sealed.append(staged)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(brought) == len(CONTENT)
    assert [staged.entry for staged in sealed] == [into.entry]


@pytest.mark.parametrize("number", [0, 3, 7])
def test_a_wrong_leaf_is_refused_and_spoils_nothing(tmp_path: Path, number: int) -> None:
    into = assembly(tmp_path, cut(CONTENT))
    rng = random.Random(number)
    for before in range(number):
        bring(into, before, before + 1)
    start, end = into.leaves.offset(number), into.leaves.offset(number + 1)
    for _ in range(40):
        wrong = bytearray(CONTENT[start:end])
        wrong[rng.randrange(len(wrong))] ^= 1 << rng.randrange(8)
        with pytest.raises(IntegrityError):
            into.put(number, number + 1, memoryview(wrong))
    due = False
    for after in range(number, len(into.leaves)):
        _, due = bring(into, after, after + 1)
    assert due
    assert into.follow() is not None


def test_right_leaves_do_not_excuse_a_wrong_sha256(tmp_path: Path) -> None:
    into = assembly(tmp_path, cut(CONTENT), sha256="0" * 64)
    for number in range(len(into.leaves)):
        bring(into, number, number + 1)
    with pytest.raises(IntegrityError, match="SHA-256 is another"):
        into.follow()


def test_what_is_left_unfinished_takes_nothing_more(tmp_path: Path) -> None:
    into = assembly(tmp_path, cut(CONTENT))
    bring(into, 2, 3)
    into.leave()
    assert bring(into, 3, 4) == (0, False)
    assert into.path.stat().st_size == 3 * CHUNK
    other = assembly(tmp_path / "other", cut(CONTENT))
    other.open()
    other.leave()
    assert not other.path.exists()


def both() -> list[FrontHash]:
    kernel = paired.kernel()
    return [FrontHash(), *([PairedFrontHash(kernel)] if kernel is not None else [])]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["leaf", "follow", "undone"]), st.integers(1, 40)), max_size=12),
    st.integers(0, 63),
)
def test_the_front_is_hashed_as_hashlib_does(steps: list[tuple[str, int]], tail: int) -> None:
    for front in both():
        whole = hashlib.sha256()
        pieces = [(kind, 64 * blocks) for kind, blocks in steps] + [("leaf", tail)]
        for seed, (kind, length) in enumerate(pieces):
            piece = pattern(length + 8, seed)[:length]
            view = memoryview(bytearray(piece))
            front.mark()
            if kind == "follow":
                front.follow(view)
            else:
                assert front.leaf(view) == hashlib.sha256(piece).digest()
            if kind == "undone":
                front.undo()
            else:
                whole.update(piece)
            assert front.hexdigest() == whole.hexdigest()
