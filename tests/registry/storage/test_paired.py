"""Both hashes in one loop give what hashlib gives."""

from __future__ import annotations

import ctypes
import hashlib
import platform
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citrate.core.errors import IntegrityError
from citrate.registry import doublehash, paired, unixfs
from citrate.registry.doublehash import DoubleHash, PairedHash, double_hash
from tests.registry.storage.conftest import CHUNK, pattern


def announced() -> bool:
    """Whether this processor and environment can run the loop at all."""
    import llvmlite.binding as llvm

    return platform.machine() == "x86_64" and bool(llvm.get_host_cpu_features().get("sha"))


def test_the_loop_is_there_where_the_processor_has_the_instructions() -> None:
    assert (paired.kernel() is not None) == announced()


def both(expected: bytes | None = None) -> list[DoubleHash]:
    kernel = paired.kernel()
    return [DoubleHash(expected), *([PairedHash(kernel, expected)] if kernel is not None else [])]


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


@pytest.mark.parametrize("right", [0, 1, 2])
def test_the_first_leaf_that_is_not_expected_ends_it(right: int) -> None:
    data = bytearray(pattern(3 * CHUNK + 5))
    expected = b"".join(hashlib.sha256(data[at : at + CHUNK]).digest() for at in range(0, len(data), CHUNK))
    data[right * CHUNK + 77] ^= 1
    for hashes in both(expected):
        with pytest.raises(IntegrityError, match=f"block {right}"):
            hashes.update(memoryview(data))
        assert hashes.leaves == expected[: 32 * right]


def test_more_leaves_than_expected_are_refused() -> None:
    data = bytearray(pattern(2 * CHUNK))
    for hashes in both(hashlib.sha256(data[:CHUNK]).digest()):
        with pytest.raises(IntegrityError) as caught:
            hashes.update(memoryview(data))
        assert caught.value.expected == "end of file"


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


def test_without_the_compiler_two_threads_do_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    paired.kernel.cache_clear()
    try:
        assert type(double_hash(1 << 40)) is DoubleHash
    finally:
        monkeypatch.undo()
        paired.kernel.cache_clear()
