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
from citrate.formats.dtypes import CONVERTIBLE, Raw, to_float32, width
from citrate.formats.merging import How, Method
from citrate.formats.merging_alike import difference
from citrate.formats.merging_writing import Merge, Piece, narrowed
from citrate.formats.safetensors_file import Tensor
from citrate.formats.source import SourceModel
from citrate.formats.streaming import in_order, read_bytes

Floats = NDArray[np.float32]
_PIECE = 1 << 19
"""Values of a piece."""
_DOT = 1 << 13
"""Values that are multiplied at once: few enough that numpy's library starts no threads of its own."""
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
        least = [_threshold(tensor, other, self.density) for other in others]
        for start in range(0, tensor.elements, _PIECE):
            yield partial(_agreed, tensor, others, least, self.weights, start)


def _wide(tensor: Tensor, start: int) -> Floats:
    """A piece's values from ``start`` on, in float32."""
    size = width(tensor.dtype)
    count = min(_PIECE, tensor.elements - start)
    return to_float32(read_bytes(tensor, start * size, count * size), tensor.dtype)


def _products(tensor: Tensor, other: Tensor, start: int) -> NDArray[np.float64]:
    """Squared length of both, and their product, over a piece."""
    a, b = _wide(tensor, start), _wide(other, start)
    sums = np.zeros(3)
    for at in range(0, a.size, _DOT):
        x, y = a[at : at + _DOT], b[at : at + _DOT]
        sums += (x @ x, y @ y, x @ y)
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
    a, b = _wide(tensor, start), _wide(other, start)
    mixed, added = near * a, far * b  # new ones: float32 values are views of what was read
    mixed += added
    return narrowed(mixed, tensor)


def _change(tensor: Tensor, other: Tensor, start: int) -> Floats:
    return _wide(other, start) - _wide(tensor, start)


def _agreed(
    tensor: Tensor, others: Sequence[Tensor], least: Sequence[np.float32], weights: Sequence[float], start: int
) -> Raw:
    """The base's values and the weighted mean of those changes, among the largest, that have the elected sign."""
    base = _wide(tensor, start)
    changes = []
    for other, smallest, weight in zip(others, least, weights, strict=True):
        change = _wide(other, start) - base
        change *= np.float32(weight) * (np.abs(change) >= smallest)
        changes.append(change)
    positive = sum(changes[1:], changes[0].copy()) >= 0
    total, divisor = np.zeros_like(base), np.zeros_like(base)
    for change, weight in zip(changes, weights, strict=True):
        agrees = np.where(positive, change > 0, change < 0)
        total += change * agrees
        divisor += np.float32(weight) * agrees
    divisor[np.abs(divisor) < 1e-8] = 1
    return narrowed(base + total / divisor, tensor)


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
        above, inside = 0, []
        jobs = (partial(_sizes, tensor, other, start, low, high) for start in range(0, tensor.elements, _PIECE))
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
    sample = np.sort(np.concatenate([np.abs(_change(tensor, other, start)[:_SAMPLED]) for start in starts]))
    middle, spread = (1 - density) * sample.size, 0.03 * sample.size
    low, high = max(0, int(middle - spread)), min(sample.size - 1, int(middle + spread))
    return sample[low], sample[high]


def _sizes(tensor: Tensor, other: Tensor, start: int, low: np.float32, high: np.float32) -> tuple[int, Floats]:
    """Of a piece: how many changes are above ``high``, and the sizes of those from ``low`` to ``high``; what did not
    change is none."""
    sizes = np.abs(_change(tensor, other, start))
    above = sizes > high
    return int(np.count_nonzero(above)), sizes[(sizes >= (low or _SMALLEST)) & ~above]
