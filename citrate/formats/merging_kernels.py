"""The arithmetic of merging, over the bits as they lie on disk.

Weights are uint16 (the bits of bfloat16) or float32, flat and of the same length in all arguments where nothing else is
said. What is computed is float32, value by value and in the order in which it is written, so that pieces of any size
give one result.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from citrate.formats.quantize.jit import kernel
from citrate.formats.quantize.primitives import F, I, bits, multiply_add, stored, widened

_LANES = 64
_RUN = 1 << 13
"""Products that are summed in float32 before they go to float64; a multiple of the lanes."""
_BLOCK = 1 << 12
"""Values that are worked on at once: what is kept of them stays in the nearest cache."""
_ROWS, _COLUMNS = 4, 512
"""Of a product, summed at once: with its part of the right factor, up to some rank, it stays in the nearest caches."""
_NO_WEIGHT = F(1e-8)
"""Weights that cancel out to less than this divide nothing; mergekit's."""
_ZERO, _ONE = F(0), F(1)
_SIZE, _INFINITE = I(0x7FFFFFFF), I(0x7F800000)
"""The bits of a float32 but its sign; from what on they are no finite number."""


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
    panel = np.zeros(right.shape[0] * _COLUMNS, np.float32)
    parts, sums = np.empty(_ROWS * _COLUMNS, np.float32), np.empty(_ROWS * _COLUMNS, np.float32)
    for start in range(0, right.shape[1], _COLUMNS):
        _fill(panel, right, start)
        for row in range(0, left.shape[0], _ROWS):
            _sum(left, row, panel, at_once, parts, sums)
            for beside in range(min(_ROWS, left.shape[0] - row)):
                total, target = sums[beside * _COLUMNS :], out[row + beside, start : start + _COLUMNS]
                for i in range(target.size):
                    target[i] = F(total[i] * scale)


@kernel
def updated(
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    scale: np.float32,
    at_once: int,
    base: NDArray[np.generic],
    out: NDArray[np.generic],
) -> bool:
    """``added`` of the ``product`` and ``base`` [rows, columns], without the product in memory.

    Returns:
        Whether all are finite numbers, before and after the rounding.
    """
    largest = I(0)
    panel = np.zeros(right.shape[0] * _COLUMNS, np.float32)
    parts, sums = np.empty(_ROWS * _COLUMNS, np.float32), np.empty(_ROWS * _COLUMNS, np.float32)
    for start in range(0, right.shape[1], _COLUMNS):
        _fill(panel, right, start)
        for row in range(0, left.shape[0], _ROWS):
            _sum(left, row, panel, at_once, parts, sums)
            for beside in range(min(_ROWS, left.shape[0] - row)):
                total = sums[beside * _COLUMNS :]
                old = base[row + beside, start : start + _COLUMNS]
                target = out[row + beside, start : start + _COLUMNS]
                for i in range(target.size):
                    value = F(F(total[i] * scale) + widened(old[i]))
                    target[i] = stored(value, target[i])
                    largest = max(largest, I(bits(value) & _SIZE), I(bits(widened(target[i])) & _SIZE))
    return bool(largest < _INFINITE)


@kernel
def _fill(panel: NDArray[np.float32], right: NDArray[np.float32], start: int) -> None:
    """Put columns of ``right`` side by side; what stands beyond its last column does not matter."""
    for k in range(right.shape[0]):
        values = right[k, start : start + _COLUMNS]
        panel[k * _COLUMNS : k * _COLUMNS + values.size] = values


@kernel
def _sum(
    left: NDArray[np.float32],
    row: int,
    panel: NDArray[np.float32],
    at_once: int,
    parts: NDArray[np.float32],
    sums: NDArray[np.float32],
) -> None:
    """The products of four rows, from ``row`` on, with a panel. Four rows and four steps at a time load and store a
    quarter of what one would, and all distances are constants: else the compiler fears that arrays overlap."""
    rank, end = left.shape[1], left.shape[0] - 1
    a, b, c, d = left[row], left[min(row + 1, end)], left[min(row + 2, end)], left[min(row + 3, end)]
    sums[:] = _ZERO
    for first in range(0, rank, at_once):
        last = min(first + at_once, rank)
        parts[:] = _ZERO
        for k in range(first, last - 3, 4):
            a0, a1, a2, a3 = a[k], a[k + 1], a[k + 2], a[k + 3]
            b0, b1, b2, b3 = b[k], b[k + 1], b[k + 2], b[k + 3]
            c0, c1, c2, c3 = c[k], c[k + 1], c[k + 2], c[k + 3]
            d0, d1, d2, d3 = d[k], d[k + 1], d[k + 2], d[k + 3]
            values = panel[k * _COLUMNS : (k + 4) * _COLUMNS]
            for i in range(_COLUMNS):
                w, x, y, z = values[i], values[_COLUMNS + i], values[2 * _COLUMNS + i], values[3 * _COLUMNS + i]
                parts[i] = _four(a0, a1, a2, a3, w, x, y, z, parts[i])
                parts[_COLUMNS + i] = _four(b0, b1, b2, b3, w, x, y, z, parts[_COLUMNS + i])
                parts[2 * _COLUMNS + i] = _four(c0, c1, c2, c3, w, x, y, z, parts[2 * _COLUMNS + i])
                parts[3 * _COLUMNS + i] = _four(d0, d1, d2, d3, w, x, y, z, parts[3 * _COLUMNS + i])
        for k in range(last - (last - first) % 4, last):
            values = panel[k * _COLUMNS : (k + 1) * _COLUMNS]
            for beside, factor in enumerate((a[k], b[k], c[k], d[k])):
                part = parts[beside * _COLUMNS : (beside + 1) * _COLUMNS]
                for i in range(_COLUMNS):
                    part[i] = multiply_add(factor, values[i], part[i])
        for i in range(_ROWS * _COLUMNS):
            sums[i] += parts[i]


@kernel
def _four(
    f0: np.float32,
    f1: np.float32,
    f2: np.float32,
    f3: np.float32,
    w: np.float32,
    x: np.float32,
    y: np.float32,
    z: np.float32,
    so_far: np.float32,
) -> np.float32:
    return multiply_add(f3, z, multiply_add(f2, y, multiply_add(f1, x, multiply_add(f0, w, so_far))))


@kernel
def added(update: NDArray[np.float32], base: NDArray[np.generic], out: NDArray[np.generic]) -> None:
    """Both together, rounded once."""
    for i in range(out.size):
        out[i] = stored(F(update[i] + widened(base[i])), out[i])
