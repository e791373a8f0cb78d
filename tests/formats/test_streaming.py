"""Streaming keeps order, bounds memory, and stops at the first fault."""

from __future__ import annotations

import json
import struct
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citrate.core.errors import FormatError
from citrate.formats.dtypes import all_finite, to_bfloat16, to_float32
from citrate.formats.safetensors_file import Planned, header_bytes, read_header
from citrate.formats.streaming import in_order, read_rows, row_ranges


def test_results_come_in_the_order_of_the_jobs() -> None:
    def job(number: int) -> int:
        time.sleep(0.001 * (number % 3))
        return number

    assert list(in_order(((lambda n=n: job(n)) for n in range(60)), threads=4)) == list(range(60))


def test_at_most_threads_and_three_results_wait() -> None:
    alive, most, lock = 0, 0, threading.Lock()

    def job() -> int:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        return 1

    for _ in in_order((job for _ in range(50)), threads=2):
        time.sleep(0.001)
        with lock:
            alive -= 1
    assert most <= 6  # five wait, one is in our hands


def test_a_fault_stops_the_jobs_behind_it() -> None:
    started: list[int] = []

    def job(number: int) -> int:
        started.append(number)
        if number == 3:
            raise FormatError("damaged")
        return number

    with pytest.raises(FormatError, match="damaged"):
        list(in_order(((lambda n=n: job(n)) for n in range(1000)), threads=2))
    assert max(started) < 20


def test_memory_does_not_grow_with_the_tensor(tmp_path: Path) -> None:
    path = tmp_path / "big.safetensors"
    planned = Planned("w", "BF16", (16384, 2048))
    with path.open("wb") as file:
        file.write(header_bytes([planned], {}))
        file.truncate(file.tell() + planned.size_bytes)
    (tensor,) = read_header(path)
    tracemalloc.start()
    rows = 0
    for first, last in row_ranges(tensor):
        rows += read_rows(tensor, first, last).size // 2048
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == 16384
    assert peak < 8 << 20 < tensor.size_bytes


@pytest.mark.parametrize(("dtype", "good", "bad"), [("BF16", 0x7F7F, 0x7F80), ("F16", 0x7BFF, 0xFC00)])
def test_the_scan_finds_one_bad_weight_anywhere(dtype: str, good: int, bad: int) -> None:
    values = np.full(1 << 19, good, np.uint16)
    assert all_finite(values, dtype)
    for position in (0, 1, 131071, 131072, values.size - 1):
        values[position] = bad
        assert not all_finite(values, dtype)
        values[position] = good


def test_bfloat16_is_rounded_to_nearest_even() -> None:
    import torch

    values = np.random.default_rng(0).standard_normal(10000).astype(np.float32)
    wanted = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(to_bfloat16(values), wanted)
    assert np.array_equal(to_bfloat16(to_float32(wanted, "BF16")), wanted)


@settings(max_examples=150)
@given(data=st.data())
def test_a_mutated_safetensors_header_is_read_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    start = header_bytes([Planned("a", "BF16", (4, 8)), Planned("b", "F32", (3,))], {"format": "pt"})
    raw = bytearray(start + bytes(76))
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, len(start) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "mutated.safetensors"
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        tensors = read_header(path)
    except FormatError:
        return
    if tensors:
        assert tensors[0].offset + sum(tensor.size_bytes for tensor in tensors) == path.stat().st_size


@settings(max_examples=100)
@given(
    entries=st.dictionaries(
        st.text(max_size=8),
        st.one_of(
            st.none(),
            st.integers(),
            st.fixed_dictionaries(
                {
                    "dtype": st.sampled_from(["F32", "BF16", "X", 1]),
                    "shape": st.lists(
                        st.one_of(st.integers(-2, 5), st.integers(2**40, 2**70), st.floats()), max_size=3
                    ),
                    "data_offsets": st.lists(st.integers(-4, 64), max_size=3),
                }
            ),
        ),
        max_size=4,
    )
)
def test_an_arbitrary_safetensors_header_is_read_or_refused(entries: dict[str, object], tmp_path: Path) -> None:
    text = json.dumps(entries).encode()
    path = tmp_path / "arbitrary.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    try:
        tensors = read_header(path)
    except FormatError:
        return
    assert sum(tensor.size_bytes for tensor in tensors) == 16
