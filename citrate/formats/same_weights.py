"""The gate on weights that are passed on: what lies in the artifact are the bytes that its source has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from citrate.core.errors import FormatError
from citrate.core.records import Check, Variant
from citrate.formats.dtypes import Raw, width
from citrate.formats.safetensors_file import Tensor
from citrate.formats.streaming import PIECE_BYTES, in_order, read_bytes, read_rows, row_ranges

Piece: TypeAlias = Callable[[], Raw]
"""Reads some of the weights of a tensor."""


@dataclass(frozen=True)
class Passed:
    """A tensor as it should be, and as it was written."""

    wanted: Tensor
    """Its name, type and shape; and where it lies, unless ``rows`` makes it."""
    written: Tensor | None
    """None where the artifact has no such tensor."""
    rows: Callable[[int, int], Raw] | None = None
    """Makes the rows from the first to before the last, where the source does not hold them as they are."""

    def pieces(self) -> Iterator[tuple[Piece, Piece]]:
        """What should be there and what is, piece by piece; both of one place."""
        assert self.written is not None
        if self.rows is not None:
            for first, last in row_ranges(self.wanted):
                yield partial(self.rows, first, last), partial(read_rows, self.written, first, last)
            return
        step = PIECE_BYTES - PIECE_BYTES % width(self.wanted.dtype)
        for start in range(0, self.wanted.size_bytes, step):
            size = min(step, self.wanted.size_bytes - start)
            yield partial(read_bytes, self.wanted, start, size), partial(read_bytes, self.written, start, size)


def check(variant: Variant, passed: Iterable[Passed]) -> Check:
    """Compare every tensor with its source, on all cores.

    Args:
        variant: for messages.
        passed: the tensors.

    Raises:
        FormatError: a tensor is missing, of another type or shape, or has other bytes; the message names it.
    """
    with closing(in_order(_comparisons(variant, passed), None)) as results:
        for name, same in results:
            if not same:
                raise _fault(variant, name, "is not the source's")
    return Check("tensors", True, "0", "0")


def _comparisons(variant: Variant, passed: Iterable[Passed]) -> Iterator[Callable[[], tuple[str, bool]]]:
    for tensor in passed:
        wanted, written = tensor.wanted, tensor.written
        if written is None:
            raise _fault(variant, wanted.name, "is missing")
        if (written.dtype, written.shape) != (wanted.dtype, wanted.shape):
            raise _fault(variant, wanted.name, f"is {written.dtype} {list(written.shape)}, not {wanted.dtype}")
        for ours, theirs in tensor.pieces():
            yield partial(_compare, wanted.name, ours, theirs)


def _compare(name: str, wanted: Piece, found: Piece) -> tuple[str, bool]:
    return name, np.array_equal(wanted().view(np.uint8), found().view(np.uint8))


def _fault(variant: Variant, name: str, what: str) -> FormatError:
    return FormatError(
        f"check 'tensors' failed for {variant}: tensor {name:.120} {what}, limit 0",
        hint="the store may be damaged: citrate store verify; else this is a fault of the converter: please report it",
    )
