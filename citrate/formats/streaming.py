"""Read tensors piece by piece, work on the pieces in threads, and hand the results on in order.

At any moment at most ``threads + 3`` pieces are in memory, so the size of a model does not matter.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import numpy as np

from citrate.core.errors import FormatError
from citrate.core.sink import Buffer
from citrate.formats.dtypes import STORAGE, Raw, all_finite, width
from citrate.formats.safetensors_file import Tensor

T = TypeVar("T")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>

_AHEAD = 3
"""Pieces beyond one a thread: while a file is written the threads go on."""
PIECE_BYTES = 1 << 20  # with its decoding it stays in the L2 cache of many cores


def default_threads() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(jobs: Iterable[Callable[[], T]], threads: int | None) -> Generator[T, None, None]:
    """Run ``jobs`` on ``threads`` threads (None: all cores) and yield their results in the order of the jobs.

    The first exception of a job is raised in its turn; jobs that have not started by then never do.
    """
    workers = threads or default_threads()
    _keep_freed_pieces()
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="convert") as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(job))
                if len(waiting) >= workers + _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@cache
def _keep_freed_pieces() -> None:
    """Have glibc reuse the memory of pieces. By its own rule it gives a piece back to the system when it is freed, and
    the next one costs a page fault every 4 KiB: a fifth of what a merge takes. Elsewhere nothing is changed."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 16 * PIECE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 8 * PIECE_BYTES)


def row_ranges(tensor: Tensor, multiple: int = 1, start: int = 0) -> Iterator[tuple[int, int]]:
    """Cut a tensor, from row ``start``, into ranges of whole rows of about ``PIECE_BYTES``, in multiples of
    ``multiple`` rows."""
    rows, row_bytes = rows_of(tensor)
    step = max(1, PIECE_BYTES // max(1, row_bytes * multiple)) * multiple
    for first in range(start, rows, step):
        yield first, min(first + step, rows)


def rows_of(tensor: Tensor) -> tuple[int, int]:
    """Rows of a tensor and bytes in one; a tensor of one dimension is one row."""
    if len(tensor.shape) < 2:
        return 1, tensor.size_bytes
    rows = tensor.elements // tensor.shape[-1] if tensor.shape[-1] else 0
    return rows, tensor.shape[-1] * width(tensor.dtype)


def read_rows(tensor: Tensor, first: int, last: int) -> Raw:
    """Read rows ``first`` to ``last`` (exclusive) as a flat array of the type's storage.

    Raises:
        FormatError: the file became shorter, or a weight is NaN or infinite.
    """
    row_bytes = rows_of(tensor)[1]
    return read_bytes(tensor, first * row_bytes, (last - first) * row_bytes)


def read_bytes(tensor: Tensor, start: int, size: int) -> Raw:
    """Read ``size`` bytes at ``start`` of the tensor's data; raises as ``read_rows`` does."""
    values = read_unseen(tensor, start, size)
    require_finite(values, tensor)
    return values


def read_unseen(tensor: Tensor, start: int, size: int) -> Raw:
    """As ``read_bytes``, for whoever finds NaN in what comes of it."""
    values = np.empty(size // width(tensor.dtype), STORAGE[tensor.dtype])
    view = values.view(np.uint8).data
    try:
        with tensor.path.open("rb", buffering=0) as file:
            file.seek(tensor.offset + start)
            at = 0
            while at < size:
                got = file.readinto(view[at:])  # one call may stop short of 2 GiB or at a signal
                if not got:
                    raise FormatError(f"{tensor.path.name} became shorter while it was read")
                at += got
    except OSError as error:
        raise FormatError(f"{tensor.path.name} cannot be read: {error.strerror}") from error
    return values


def require_finite(values: Raw, tensor: Tensor) -> None:
    """Look through weights of ``tensor`` as they were read.

    Raises:
        FormatError: one is NaN or infinite.
    """
    if not all_finite(values, tensor.dtype):
        raise FormatError(
            f"tensor {tensor.name!r} holds NaN or infinite weights",
            hint="it is damaged: download it again, or save it again",
        )


def buffer(values: Raw) -> Buffer:
    """The bytes of a contiguous array, for a sink."""
    return values.view(np.uint8).data
