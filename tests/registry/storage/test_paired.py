"""Both hashes in one loop give what hashlib gives."""

from __future__ import annotations

import ctypes
import hashlib
import platform
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citrate.core.records import PROFILE, TENSOR_PROFILE
from citrate.registry import doublehash, paired, unixfs
from citrate.registry.doublehash import DoubleHash, PairedHash, double_hash
from citrate.registry.profiles import V0Importer
from citrate.registry.unixfs import SourceFile
from tests.registry.storage.conftest import CHUNK, pattern


def announced() -> bool:
    """Whether this processor and environment can run the loop at all."""
    import llvmlite.binding as llvm

    return platform.machine() == "x86_64" and bool(llvm.get_host_cpu_features().get("sha"))


def test_the_loop_is_there_where_the_processor_has_the_instructions() -> None:
    assert (paired.kernel() is not None) == announced()


def both() -> list[DoubleHash]:
    kernel = paired.kernel()
    return [DoubleHash(), *([PairedHash(kernel)] if kernel is not None else [])]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(min_value=0, max_value=3),
    st.sampled_from([0, 1, 54, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, CHUNK - 64, CHUNK - 9, CHUNK - 1])
    | st.integers(min_value=0, max_value=CHUNK - 1),
    st.integers(min_value=1, max_value=3),
)
def test_any_length_in_any_pieces(leaves: int, rest: int, at_once: int) -> None:
    data = bytearray(pattern(leaves * CHUNK + rest, rest))
    expected = [hashlib.sha256(data[at : at + CHUNK]).digest() for at in range(0, len(data), CHUNK)]
    for hashes in both():
        for at in range(0, len(data), at_once * CHUNK):
            piece = memoryview(data)[at : at + at_once * CHUNK]
            for task in hashes.tasks:
                task(piece)
        assert hashes.hexdigest() == hashlib.sha256(data).hexdigest()
        assert hashes.hexdigest() == hashlib.sha256(data).hexdigest()  # asking changes nothing
        assert hashes.leaves == b"".join(expected)


def test_a_loop_that_is_wrong_is_not_used() -> None:
    kernel = paired.kernel()
    if kernel is None:
        assert not announced()
        return

    def idle(_state: int, _data: int, _blocks: int) -> None:
        return

    def spoil(state: int, data: int, blocks: int) -> None:
        kernel.two(state, data, blocks)
        ctypes.memset(state, 0, 1)

    assert paired._is_right(kernel)

    def mix_up(states: int, first: int, second: int, blocks: int) -> None:
        kernel.apart(states, second, first, blocks)

    wrongs = (replace(kernel, one=idle), replace(kernel, two=idle), replace(kernel, two=spoil))
    for wrong in (*wrongs, replace(kernel, apart=mix_up)):
        assert not paired._is_right(wrong)


def test_a_large_file_is_hashed_by_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doublehash, "PAIRED_FROM_BYTES", 5 * CHUNK)
    assert isinstance(double_hash(5 * CHUNK), PairedHash) == announced()
    assert type(double_hash(5 * CHUNK - 1)) is DoubleHash
    assert type(double_hash(None)) is DoubleHash
    path = tmp_path / "weights.bin"
    path.write_bytes(pattern(11 * CHUNK + 3))
    looped = unixfs.address(path)
    monkeypatch.undo()
    assert looped == unixfs.address(path)
    assert looped.sha256 == hashlib.sha256(pattern(11 * CHUNK + 3)).hexdigest()


def side_by_side(files: int, cores: int, busy: int) -> int:
    """How many of so many large files are at work at the same time, at most."""
    at_work, most, lock = [0], [0], threading.Lock()
    all_there = threading.Event()

    def task(_: SourceFile) -> None:
        with lock:
            at_work[0] += 1
            most[0] = max(most[0], at_work[0])
            if at_work[0] == cores // busy:
                all_there.set()
        assert all_there.wait(30)
        with lock:
            at_work[0] -= 1

    unixfs.each([SourceFile(f"{i}", Path(), 1 << 30) for i in range(files)], task, cores, busy=lambda _: busy)
    return most[0]


def test_large_files_take_as_many_cores_as_threads_hash_them(monkeypatch: pytest.MonkeyPatch) -> None:
    shard = SourceFile("shard", Path(), 256 << 20)
    assert unixfs.busy_threads(PROFILE)(shard) == (1 if announced() else 2)
    assert unixfs.busy_threads(TENSOR_PROFILE)(shard) == 2
    assert side_by_side(8, 4, busy=1) == 4
    assert side_by_side(8, 4, busy=2) == 2
    monkeypatch.setattr(paired, "kernel", lambda: None)
    assert unixfs.busy_threads(PROFILE)(shard) == 2


def test_files_are_imported_side_by_side_in_the_profile_of_2015_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(3):
        (tmp_path / f"{i}").write_bytes(pattern(CHUNK + 1, i))
    expected, opened, barrier = V0Importer().add(tmp_path), unixfs.open_regular, threading.Barrier(3)

    def together(path: Path) -> int:
        barrier.wait(30)
        return opened(path)

    monkeypatch.setattr(unixfs, "open_regular", together)
    monkeypatch.setattr(unixfs, "available_cores", lambda: 3)
    blocks: dict[str, bytes] = {}
    assert V0Importer(lambda cid, block: blocks.update({str(cid): block})).add(tmp_path) == expected
    assert expected.cid in blocks


@pytest.mark.parametrize("failing", ["0", "1"])
def test_where_one_file_fails_the_others_are_not_hashed_to_their_end(tmp_path: Path, failing: str) -> None:
    for i in range(2):
        (tmp_path / f"{i}").write_bytes(pattern(40 * CHUNK, i))
    read, both_began = {"0": 0, "1": 0}, threading.Barrier(2)

    def task(file: SourceFile) -> None:
        def progress(count: int) -> None:
            read[file.path] += count
            if read[file.path] == count:
                both_began.wait(30)
                if file.path == failing:
                    raise RuntimeError("no more of this")
                assert unixfs._RUNNING.stopped is not None
                assert unixfs._RUNNING.stopped.wait(30)

        unixfs.hash_file(file.source, progress=progress)

    files, _ = unixfs.scan(tmp_path)
    with pytest.raises(RuntimeError, match="no more"):
        unixfs.each(files, task, 2)
    assert max(read.values()) < 40 * CHUNK


def test_without_the_compiler_two_threads_do_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    paired.kernel.cache_clear()
    try:
        assert type(double_hash(1 << 40)) is DoubleHash
    finally:
        monkeypatch.undo()
        paired.kernel.cache_clear()
