"""Whole models merged: SLERP between two, TIES of several that come from one base. Streamed; memory of some pieces.

What a method must know of a whole tensor before its first value (angles, thresholds) is gathered in a pass of its own.
Source: Shoemake 1985 for the arc; arXiv 2306.01708 for TIES, with weights, as mergekit has both, tensor by tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from citrate.core.errors import FormatError
from citrate.formats import merging_kernels as kernels
from citrate.formats.dtypes import CONVERTIBLE, Raw, width
from citrate.formats.merging import How, Method
from citrate.formats.merging_alike import difference
from citrate.formats.merging_writing import Merge, Piece, for_kernel, of_kernel
from citrate.formats.safetensors_file import Tensor
from citrate.formats.source import SourceModel
from citrate.formats.streaming import in_order, read_bytes

Floats = NDArray[np.float32]
_PIECE = 1 << 19
"""Values of a piece."""
_SAMPLED = 1 << 14
"""Values of a piece that are looked at first."""
_SMALLEST = np.finfo(np.float32).smallest_subnormal
_PARALLEL = 0.9995
"""Cosines past which two tensors have no arc between them to speak of; mergekit's."""


def of_models(
    models: Sequence[SourceModel],
    names: Sequence[str],
    weights: Sequence[float],
    how: How,
    base: SourceModel | None,
) -> tuple[SourceModel, Merge]:
    """The model whose files the result has, and how its tensors are made.

    Args:
        models: two for SLERP.
        names: how messages call them.
        weights: of each.
        how: SLERP or TIES.
        base: for TIES, what the models come from.

    Raises:
        FormatError: they are not of one kind.
    """
    first, called = (models[0], names[0]) if base is None else (base, "the base")
    for model, name in zip(models, names, strict=True):
        found = "" if model is first else difference(first, model)
        if found:
            raise FormatError(
                f"{called} and {name} cannot be merged: {found}",
                hint="models are merged that were trained from one base, with its tokenizer",
            )
    tensors = [{tensor.name: tensor for tensor in model.tensors} for model in models]
    if how.method is Method.SLERP:
        return first, Slerp(tensors[1], weights[1] / sum(weights))
    return first, Ties(tensors, weights, how.density)


@dataclass(frozen=True)
class Slerp:
    """A model moved along the arc to another (`merging_writing.Merge`)."""

    other: Mapping[str, Tensor]
    part: float
    """Of the way: 0 is the model itself, 1 the other."""

    def pieces(self, tensor: Tensor) -> Iterator[Piece] | None:
        """The tensor's values between those of both models; None where no weight can be between others."""
        if tensor.dtype not in CONVERTIBLE:
            return None
        return self._between(tensor, self.other[tensor.name])

    def _between(self, tensor: Tensor, other: Tensor) -> Iterator[Piece]:
        jobs = (partial(_products, tensor, other, start) for start in range(0, tensor.elements, _PIECE))
        sums = np.zeros(3)
        for each in in_order(jobs, None):
            sums += each
        near, far = _shares(float(sums[0]), float(sums[1]), float(sums[2]), self.part)
        for start in range(0, tensor.elements, _PIECE):
            yield partial(_mixed, tensor, other, start, np.float32(near), np.float32(far))


@dataclass(frozen=True)
class Ties:
    """A base with what several models changed in it, where they agree (`merging_writing.Merge`)."""

    models: Sequence[Mapping[str, Tensor]]
    weights: Sequence[float]
    density: float

    def pieces(self, tensor: Tensor) -> Iterator[Piece] | None:
        """The tensor's values after the elected changes; None where no weight can be changed by parts."""
        if tensor.dtype not in CONVERTIBLE:
            return None
        return self._elected(tensor, [model[tensor.name] for model in self.models])

    def _elected(self, tensor: Tensor, others: Sequence[Tensor]) -> Iterator[Piece]:
        least = np.array([_threshold(tensor, other, self.density) for other in others], np.float32)
        weights = np.array(self.weights, np.float32)
        for start in range(0, tensor.elements, _PIECE):
            yield partial(_agreed, tensor, others, least, weights, start)


def _weights(tensor: Tensor, start: int, most: int | None = None) -> Raw:
    """A piece's weights from ``start`` on, or the first ``most`` of them, of a type that the kernels take."""
    size = width(tensor.dtype)
    count = min(most or _PIECE, tensor.elements - start)
    return for_kernel(read_bytes(tensor, start * size, count * size), tensor)


def _products(tensor: Tensor, other: Tensor, start: int) -> NDArray[np.float64]:
    """Squared length of both, and their product, over a piece."""
    sums = np.zeros(3)
    kernels.products(_weights(tensor, start), _weights(other, start), sums)
    return sums


def _shares(first: float, second: float, both: float, part: float) -> tuple[float, float]:
    """How much of each tensor makes the point at ``part`` of the arc between them."""
    lengths = math.sqrt(first) * math.sqrt(second)
    cosine = max(-1.0, min(1.0, both / lengths)) if lengths else 1.0
    if abs(cosine) > _PARALLEL:
        return 1 - part, part
    angle = math.acos(cosine)
    return math.sin((1 - part) * angle) / math.sin(angle), math.sin(part * angle) / math.sin(angle)


def _mixed(tensor: Tensor, other: Tensor, start: int, near: np.float32, far: np.float32) -> Raw:
    weights = _weights(tensor, start)
    out = np.empty_like(weights)  # its own: in place, the kernel would not be sure that it may take many at once
    kernels.mixed(weights, _weights(other, start), near, far, out)
    return of_kernel(out, tensor)


def _agreed(tensor: Tensor, others: Sequence[Tensor], least: Floats, weights: Floats, start: int) -> Raw:
    """The base's values and the weighted mean of those changes, among the largest, that have the elected sign."""
    base = _weights(tensor, start)
    out = np.empty_like(base)
    kernels.elected(base, np.stack([_weights(other, start) for other in others]), least, weights, out)
    return of_kernel(out, tensor)


def _threshold(tensor: Tensor, other: Tensor, density: float) -> np.float32:
    """The smallest size of a change that belongs to the share ``density`` of the largest; more belong to it where
    several are as small.

    Sizes are first looked at in a sample, which gives a range that the threshold is in, most likely; one pass counts
    what is above it and keeps what is in it. If it is not there, the range is opened.
    """
    kept = int(density * tensor.elements)
    if not kept:
        return np.float32(np.inf)
    if kept == tensor.elements:
        return np.float32(0)
    low, high = _likely(tensor, other, density)
    while True:
        above, inside = 0, []  # what did not change is no change, however small the smallest is
        jobs = (
            partial(_sizes, tensor, other, start, low or _SMALLEST, high) for start in range(0, tensor.elements, _PIECE)
        )
        for count, values in in_order(jobs, None):
            above += count
            inside.append(values)
        found = np.concatenate(inside)
        if above < kept <= above + found.size:
            return np.float32(np.partition(found, above + found.size - kept)[above + found.size - kept])
        if above < kept and not low:
            return np.float32(0)  # there are not so many changes
        low, high = (high, np.float32(np.inf)) if above >= kept else (np.float32(0), low)


def _likely(tensor: Tensor, other: Tensor, density: float) -> tuple[np.float32, np.float32]:
    """A range of sizes around the threshold, from some of the values."""
    starts = range(0, tensor.elements, max(_PIECE, tensor.elements // 16))
    zero, endless = np.float32(0), np.float32(np.inf)
    sample = np.sort(np.concatenate([_sizes(tensor, other, start, zero, endless, _SAMPLED)[1] for start in starts]))
    middle, spread = (1 - density) * sample.size, 0.03 * sample.size
    low, high = max(0, int(middle - spread)), min(sample.size - 1, int(middle + spread))
    return sample[low], sample[high]


def _sizes(
    tensor: Tensor, other: Tensor, start: int, low: np.float32, high: np.float32, most: int | None = None
) -> tuple[int, Floats]:
    """Of a piece, or of its first ``most`` values: how many changes are above ``high``, and the sizes of those from
    ``low`` to ``high``."""
    base = _weights(tensor, start, most)
    room = np.empty(base.size, np.float32)
    above, found = kernels.sizes_within(base, _weights(other, start, most), low, high, room)
    return above, room[:found].copy()
