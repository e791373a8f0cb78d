"""The arithmetic of merging, over the bits as they lie on disk.

Weights are uint16 (the bits of bfloat16) or float32, flat and of the same length in all arguments where nothing else is
said. What is computed is float32, value by value and in the order in which it is written, so that pieces of any size
give one result.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from citrate.formats.quantize.jit import kernel
from citrate.formats.quantize.primitives import F, I, multiply_add, stored, widened

_LANES = 64
_RUN = 1 << 13
"""Products that are summed in float32 before they go to float64; a multiple of the lanes."""
_BLOCK = 1 << 12
"""Values that are worked on at once: what is kept of them stays in the nearest cache."""
_COLUMNS = 2048
"""Columns of a product that are summed at once: with some rows of the right factor they fit the second cache."""
_NO_WEIGHT = F(1e-8)
"""Weights that cancel out to less than this divide nothing; mergekit's."""
_ZERO, _ONE = F(0), F(1)


@kernel
def products(first: NDArray[np.generic], second: NDArray[np.generic], sums: NDArray[np.float64]) -> None:
    """Add both squared lengths and the product to ``sums`` (3)."""
    lanes = np.zeros((3, _LANES), np.float32)  # sums side by side: float additions may not be put in another order
    for start in range(0, first.size, _RUN):
        a, b = first[start : start + _RUN], second[start : start + _RUN]
        whole = a.size // _LANES
        for row in range(whole):
            x, y = a[row * _LANES : (row + 1) * _LANES], b[row * _LANES : (row + 1) * _LANES]
            for lane in range(_LANES):
                p, q = widened(x[lane]), widened(y[lane])
                lanes[0, lane] += F(p * p)
                lanes[1, lane] += F(q * q)
                lanes[2, lane] += F(p * q)
        for i in range(whole * _LANES, a.size):
            p, q = widened(a[i]), widened(b[i])
            lanes[0, 0] += F(p * p)
            lanes[1, 0] += F(q * q)
            lanes[2, 0] += F(p * q)
        for number in range(3):
            for lane in range(_LANES):
                sums[number] += np.float64(lanes[number, lane])
                lanes[number, lane] = _ZERO


@kernel
def mixed(
    first: NDArray[np.generic],
    second: NDArray[np.generic],
    near: np.float32,
    far: np.float32,
    out: NDArray[np.generic],
) -> None:
    """``near`` of one and ``far`` of the other."""
    for i in range(out.size):
        out[i] = stored(F(F(near * widened(first[i])) + F(far * widened(second[i]))), out[i])


@kernel
def sizes_within(
    base: NDArray[np.generic],
    other: NDArray[np.generic],
    low: np.float32,
    high: np.float32,
    out: NDArray[np.float32],
) -> tuple[int, int]:
    """Put the sizes of changes from ``low`` to ``high`` into ``out``, which has room for all.

    Returns:
        How many are larger than ``high``, and how many were put there.
    """
    sizes = np.empty(_BLOCK, np.float32)
    above, found = 0, 0
    for start in range(0, base.size, _BLOCK):
        a, b = base[start : start + _BLOCK], other[start : start + _BLOCK]
        here = sizes[: a.size]
        larger = I(0)
        for i in range(here.size):
            size = F(abs(F(widened(b[i]) - widened(a[i]))))
            here[i] = size
            larger += I(1) if size > high else I(0)
        above += int(larger)
        for i in range(here.size):  # no branch: which way it goes cannot be foretold
            out[found] = here[i]
            found += 1 if (here[i] >= low) & (here[i] <= high) else 0
    return above, found


@kernel
def elected(
    base: NDArray[np.generic],
    others: NDArray[np.generic],
    least: NDArray[np.float32],
    weights: NDArray[np.float32],
    out: NDArray[np.generic],
) -> None:
    """The base's values and the weighted mean of those changes, of size ``least`` at least, that have the elected sign.

    Args:
        base: N values.
        others: M rows of N.
        least: M, the size from which a model's changes count.
        weights: M.
        out: N.
    """
    count = others.shape[0]
    changes = np.empty((count, _BLOCK), np.float32)
    sums, divisors = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    for start in range(0, base.size, _BLOCK):
        origin, target = base[start : start + _BLOCK], out[start : start + _BLOCK]
        vote, divisor = sums[: origin.size], divisors[: origin.size]
        vote[:] = _ZERO
        divisor[:] = _ZERO
        for number in range(count):
            other, change = others[number, start : start + _BLOCK], changes[number, : origin.size]
            smallest, weight = least[number], weights[number]
            for i in range(origin.size):
                moved = F(widened(other[i]) - widened(origin[i]))
                counts = _ONE if F(abs(moved)) >= smallest else _ZERO
                change[i] = F(moved * F(weight * counts))
                vote[i] += change[i]
        for i in range(origin.size):
            vote[i] = _ONE if vote[i] >= _ZERO else -_ONE
        for number in range(count):
            change, weight = changes[number, : origin.size], weights[number]
            for i in range(origin.size):
                divisor[i] += weight if F(change[i] * vote[i]) > _ZERO else _ZERO
        for i in range(origin.size):
            divisor[i] = _ONE if F(abs(divisor[i])) < _NO_WEIGHT else divisor[i]
        _put_mean(origin, changes[:, : origin.size], vote, divisor, target)


@kernel
def _put_mean(
    origin: NDArray[np.generic],
    changes: NDArray[np.float32],
    vote: NDArray[np.float32],
    divisor: NDArray[np.float32],
    target: NDArray[np.generic],
) -> None:
    total = np.zeros(_BLOCK, np.float32)[: origin.size]
    for number in range(changes.shape[0]):
        change = changes[number]
        for i in range(origin.size):
            total[i] += change[i] if F(change[i] * vote[i]) > _ZERO else _ZERO
    for i in range(origin.size):
        target[i] = stored(F(widened(origin[i]) + F(total[i] / divisor[i])), target[i])


@kernel
def product(
    left: NDArray[np.float32], right: NDArray[np.float32], scale: np.float32, at_once: int, out: NDArray[np.float32]
) -> None:
    """``scale * left @ right``, each value summed as BLAS libraries do: in order, each step rounded once.

    Args:
        left: [rows, rank].
        right: [rank, columns].
        scale: of the sums.
        at_once: so many products are summed from zero; then the sums are.
        out: [rows, columns].
    """
    rank = right.shape[0]
    summed = np.empty(_COLUMNS, np.float32)
    for start in range(0, right.shape[1], _COLUMNS):
        for row in range(left.shape[0]):
            target = out[row, start : start + _COLUMNS]
            part = summed[: target.size]
            target[:] = _ZERO
            for first in range(0, rank, at_once):
                part[:] = _ZERO
                last = min(first + at_once, rank)
                for k in range(first, last - 3, 4):  # four of the steps between two looks at what is summed
                    f0, f1, f2, f3 = left[row, k], left[row, k + 1], left[row, k + 2], left[row, k + 3]
                    v0, v1 = right[k, start : start + _COLUMNS], right[k + 1, start : start + _COLUMNS]
                    v2, v3 = right[k + 2, start : start + _COLUMNS], right[k + 3, start : start + _COLUMNS]
                    for i in range(part.size):
                        so_far = multiply_add(f1, v1[i], multiply_add(f0, v0[i], part[i]))
                        part[i] = multiply_add(f3, v3[i], multiply_add(f2, v2[i], so_far))
                for k in range(last - (last - first) % 4, last):
                    factor, values = left[row, k], right[k, start : start + _COLUMNS]
                    for i in range(part.size):
                        part[i] = multiply_add(factor, values[i], part[i])
                for i in range(part.size):
                    target[i] += part[i]
            for i in range(target.size):
                target[i] = F(target[i] * scale)


@kernel
def added(update: NDArray[np.float32], base: NDArray[np.generic], out: NDArray[np.generic]) -> None:
    """Both together, rounded once."""
    for i in range(out.size):
        out[i] = stored(F(update[i] + widened(base[i])), out[i])
