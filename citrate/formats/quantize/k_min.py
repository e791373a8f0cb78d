"""Q4_K and Q5_K: blocks of 256 weights in eight sub-blocks, each with a 6-bit scale and a 6-bit minimum.

The bytes are those of ggml's reference code without an importance matrix. Its search for the best scale and minimum
of a sub-block is a chain of dependent float32 sums, which no compiler may reorder, so a sub-block is one SIMD lane:
``LANES`` sub-blocks are searched side by side, element ``i`` of all of them together, and each lane adds in the order
of the C code. A tile of ``LANES`` sub-blocks and its weights stays in the L1 cache.

Arrays are flat (numba vectorises those best): row ``r`` of a table starts at ``r * LANES``. The clamp bounds are
arguments on purpose: LLVM turns literal ones into slower compares and blends.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from citrate.formats.quantize.jit import kernel
from citrate.formats.quantize.k_min_pack import pack_k_min
from citrate.formats.quantize.primitives import F, I, rounded_within
from citrate.formats.quantize.rounding import ONE, ZERO, load, transpose

Floats = NDArray[np.float32]

LANES = 64
_LENGTH = 32  # weights in a sub-block
_TILE = LANES * _LENGTH
_SUPER_BLOCKS = _TILE // 256
_UNROLL = 8  # elements a pass over the lanes: running sums are loaded and stored once in so many steps
_FAR = F(4e6)  # a scaled weight past this leaves the range of the rounding trick

# Rows of ``found``, the state of the search in each lane:
_MIN = LANES * 0  # the minimum in use; moves with every accepted candidate, as in the C code
_MAX = LANES * 1
_SUM_W = LANES * 2
_SUM_X = LANES * 3
_SCALE = LANES * 4
_ERROR = LANES * 5
_BEST_INVERSE = LANES * 6  # what the chosen integers were made with
_BEST_MIN = LANES * 7
_LOW = LANES * 8  # the smallest weight
_OUT_OF_RANGE = LANES * 9
_FOUND_ROWS = 10

# Rows of ``trial``, one candidate in each lane:
_INVERSE = LANES * 0
_SUM_L = LANES * 1
_SUM_L2 = LANES * 2
_SUM_XL = LANES * 3
_TRIAL_ERROR = LANES * 4
_TRIAL_SCALE = LANES * 5
_TRIAL_MIN = LANES * 6
_DETERMINANT = LANES * 7
_TRIAL_ROWS = 8


@kernel
def encode_k_min(
    source: NDArray[np.generic],
    out: NDArray[np.uint8],
    first: int,
    last: int,
    levels: int,
    shrink: np.float32,
    refits: int,
    size: int,
) -> None:
    """Encode blocks ``first`` to ``last`` of ``size`` bytes (144: Q4_K, 176: Q5_K).

    Args:
        source: flat float32 or bfloat16 (as uint16).
        out: the whole output; block b is written at ``b * size``.
        first: the first block.
        last: one past the last block.
        levels: the largest code: 15 or 31.
        shrink: where the trial scales start, relative to ``levels``: -1 or -0.5.
        refits: one less than the trial scales: 20 or 15.
        size: bytes of a block.
    """
    tile, x, w, q = (
        np.empty(_TILE, np.float32),
        np.empty(_TILE, np.float32),
        np.empty(_TILE, np.float32),
        np.empty(_TILE, np.float32),
    )
    found, trial = np.empty(_FOUND_ROWS * LANES, np.float32), np.empty(_TRIAL_ROWS * LANES, np.float32)
    codes = np.empty(256, np.uint8)
    for start in range(first, last, _SUPER_BLOCKS):
        count = min(_SUPER_BLOCKS, last - start)
        load(source, start * 256, count * 256, tile)
        transpose(tile, x, LANES, _LENGTH)
        if not _search(x, w, q, found, trial, F(0), F(levels), shrink, refits):
            _search(x, w, q, found, trial, I(0), I(levels), shrink, refits)
        for block in range(count):
            pack_k_min(
                tile,
                found[_SCALE : _SCALE + LANES],
                found[_MIN : _MIN + LANES],
                found[_BEST_INVERSE : _BEST_INVERSE + LANES],
                found[_BEST_MIN : _BEST_MIN + LANES],
                codes,
                out,
                (start + block) * size,
                block,
                levels,
                size == 176,
            )


@kernel
def _search(
    x: Floats,
    w: Floats,
    q: Floats,
    found: Floats,
    trial: Floats,
    bottom: np.number,
    top: np.number,
    shrink: np.float32,
    refits: int,
) -> bool:
    """Find scale and minimum of every lane: a first guess, then ``refits + 1`` weighted least-squares refits.

    Returns False where float bounds are not valid, because some scaled weight leaves the rounding trick's range.
    """
    levels = F(top)
    _weigh(x, w, found, trial)
    _first_guess(found, trial, levels)
    _sums(x, w, q, trial, found, bottom, top)
    _errors(x, w, q, trial)
    for v in range(LANES):
        found[_ERROR + v] = trial[_TRIAL_ERROR + v]
    for step in range(refits + 1):
        numerator = F(F(shrink + F(F(0.1) * F(step))) + levels)
        for v in range(LANES):
            inverse = F(numerator / F(found[_MAX + v] - found[_MIN + v]))
            trial[_INVERSE + v] = inverse
            near = abs(F(inverse * F(found[_LOW + v] - found[_MIN + v]))) < _FAR
            found[_OUT_OF_RANGE + v] = found[_OUT_OF_RANGE + v] if near else ONE
        _sums(x, w, q, trial, found, bottom, top)
        _refit(found, trial)
        _errors(x, w, q, trial)
        _accept(found, trial)
    far = ZERO
    for v in range(LANES):
        far += found[_OUT_OF_RANGE + v]
    return bool(far == ZERO)


@kernel
def _weigh(x: Floats, w: Floats, found: Floats, trial: Floats) -> None:
    """Each weight's importance, the sub-block's root mean square + |x|; extremes and weighted sums of the lanes."""
    for v in range(LANES):
        trial[v] = ZERO
    for i in range(_LENGTH):
        row = x[i * LANES : (i + 1) * LANES]
        for v in range(LANES):
            trial[v] = F(trial[v] + F(row[v] * row[v]))
    for v in range(LANES):
        trial[v] = F(np.sqrt(F(trial[v] / F(_LENGTH))))
        found[_LOW + v] = x[v]
        found[_MAX + v] = x[v]
        found[_OUT_OF_RANGE + v] = ZERO
        found[_SUM_W + v] = ZERO
        found[_SUM_X + v] = ZERO
    for i in range(_LENGTH):
        row = x[i * LANES : (i + 1) * LANES]
        importance = w[i * LANES : (i + 1) * LANES]
        for v in range(LANES):
            value = row[v]
            weight = F(trial[v] + F(abs(value)))
            importance[v] = weight
            found[_LOW + v] = value if value < found[_LOW + v] else found[_LOW + v]
            found[_MAX + v] = value if value > found[_MAX + v] else found[_MAX + v]
            found[_SUM_W + v] = F(found[_SUM_W + v] + weight)
            found[_SUM_X + v] = F(found[_SUM_X + v] + F(weight * value))


@kernel
def _first_guess(found: Floats, trial: Floats, levels: np.float32) -> None:
    """Spread the levels over the range from the minimum, or zero if that is smaller, to the maximum."""
    for v in range(LANES):
        low = ZERO if found[_LOW + v] > ZERO else found[_LOW + v]
        extent = F(found[_MAX + v] - low)
        inverse = F(levels / extent) if extent != ZERO else ZERO
        scale = F(ONE / inverse) if extent != ZERO else ZERO
        found[_MAX + v] = found[_MAX + v] if extent != ZERO else ONE  # a flat lane: finite steps, never accepted
        found[_MIN + v] = low
        found[_SCALE + v] = scale
        found[_BEST_INVERSE + v] = inverse
        found[_BEST_MIN + v] = low
        trial[_INVERSE + v] = inverse
        trial[_TRIAL_SCALE + v] = scale
        trial[_TRIAL_MIN + v] = low


@kernel
def _refit(found: Floats, trial: Floats) -> None:
    """Weighted least squares of the weights on the codes; with a minimum of zero where it would be positive."""
    for v in range(LANES):
        sum_w, sum_x = found[_SUM_W + v], found[_SUM_X + v]
        sum_l, sum_l2, sum_xl = trial[_SUM_L + v], trial[_SUM_L2 + v], trial[_SUM_XL + v]
        determinant = F(F(sum_w * sum_l2) - F(sum_l * sum_l))
        scale = F(F(F(sum_w * sum_xl) - F(sum_x * sum_l)) / determinant)
        low = F(F(F(sum_l2 * sum_x) - F(sum_l * sum_xl)) / determinant)
        through_zero = F(sum_xl / sum_l2)
        trial[_TRIAL_SCALE + v] = through_zero if low > ZERO else scale
        trial[_TRIAL_MIN + v] = ZERO if low > ZERO else low
        trial[_DETERMINANT + v] = determinant


@kernel
def _accept(found: Floats, trial: Floats) -> None:
    """Keep the candidate in the lanes where it lowers the error."""
    for v in range(LANES):
        better = (trial[_DETERMINANT + v] > ZERO) & (trial[_TRIAL_ERROR + v] < found[_ERROR + v])
        found[_ERROR + v] = trial[_TRIAL_ERROR + v] if better else found[_ERROR + v]
        found[_SCALE + v] = trial[_TRIAL_SCALE + v] if better else found[_SCALE + v]
        found[_BEST_INVERSE + v] = trial[_INVERSE + v] if better else found[_BEST_INVERSE + v]
        found[_BEST_MIN + v] = found[_MIN + v] if better else found[_BEST_MIN + v]
        found[_MIN + v] = trial[_TRIAL_MIN + v] if better else found[_MIN + v]


@kernel
def _sums(x: Floats, w: Floats, q: Floats, trial: Floats, found: Floats, bottom: np.number, top: np.number) -> None:
    """Round every weight with the lane's inverse scale into ``q``; sum codes, their squares, and codes times x."""
    for v in range(LANES):
        trial[_SUM_L + v] = ZERO
        trial[_SUM_L2 + v] = ZERO
        trial[_SUM_XL + v] = ZERO
    for start in range(0, _TILE, _UNROLL * LANES):
        xs, ws, qs = (
            x[start : start + _UNROLL * LANES],
            w[start : start + _UNROLL * LANES],
            q[start : start + _UNROLL * LANES],
        )
        for v in range(LANES):
            inverse = trial[_INVERSE + v]
            low = found[_MIN + v]
            l1, l2, xl = trial[_SUM_L + v], trial[_SUM_L2 + v], trial[_SUM_XL + v]
            l1, l2, xl = _four_codes(xs, ws, qs, v, inverse, low, bottom, top, l1, l2, xl)
            l1, l2, xl = _four_codes(xs, ws, qs, v + 4 * LANES, inverse, low, bottom, top, l1, l2, xl)
            trial[_SUM_L + v] = l1
            trial[_SUM_L2 + v] = l2
            trial[_SUM_XL + v] = xl


@kernel
def _four_codes(
    xs: Floats,
    ws: Floats,
    qs: Floats,
    v: int,
    inverse: np.float32,
    low: np.float32,
    bottom: np.number,
    top: np.number,
    l1: np.float32,
    l2: np.float32,
    xl: np.float32,
) -> tuple[np.float32, np.float32, np.float32]:
    """Four elements of lane ``v``: codes into ``qs``, and added to the three sums, in order."""
    qs[v], l1, l2, xl = _code(xs[v], ws[v], inverse, low, bottom, top, l1, l2, xl)
    v += LANES
    qs[v], l1, l2, xl = _code(xs[v], ws[v], inverse, low, bottom, top, l1, l2, xl)
    v += LANES
    qs[v], l1, l2, xl = _code(xs[v], ws[v], inverse, low, bottom, top, l1, l2, xl)
    v += LANES
    qs[v], l1, l2, xl = _code(xs[v], ws[v], inverse, low, bottom, top, l1, l2, xl)
    return l1, l2, xl


@kernel
def _code(
    x: np.float32,
    w: np.float32,
    inverse: np.float32,
    low: np.float32,
    bottom: np.number,
    top: np.number,
    l1: np.float32,
    l2: np.float32,
    xl: np.float32,
) -> tuple[np.float32, np.float32, np.float32, np.float32]:
    code = rounded_within(F(inverse * F(x - low)), bottom, top)
    weighted = F(w * code)
    return code, F(l1 + weighted), F(l2 + F(weighted * code)), F(xl + F(weighted * x))


@kernel
def _errors(x: Floats, w: Floats, q: Floats, trial: Floats) -> None:
    """The weighted squared error of every lane's candidate."""
    for v in range(LANES):
        trial[_TRIAL_ERROR + v] = ZERO
    for start in range(0, _TILE, _UNROLL * LANES):
        xs, ws, qs = (
            x[start : start + _UNROLL * LANES],
            w[start : start + _UNROLL * LANES],
            q[start : start + _UNROLL * LANES],
        )
        for v in range(LANES):
            scale = trial[_TRIAL_SCALE + v]
            low = trial[_TRIAL_MIN + v]
            error = trial[_TRIAL_ERROR + v]
            error = _four_errors(xs, ws, qs, v, scale, low, error)
            error = _four_errors(xs, ws, qs, v + 4 * LANES, scale, low, error)
            trial[_TRIAL_ERROR + v] = error


@kernel
def _four_errors(
    xs: Floats, ws: Floats, qs: Floats, v: int, scale: np.float32, low: np.float32, error: np.float32
) -> np.float32:
    error = _error(xs[v], ws[v], qs[v], scale, low, error)
    v += LANES
    error = _error(xs[v], ws[v], qs[v], scale, low, error)
    v += LANES
    error = _error(xs[v], ws[v], qs[v], scale, low, error)
    v += LANES
    return _error(xs[v], ws[v], qs[v], scale, low, error)


@kernel
def _error(
    x: np.float32, w: np.float32, code: np.float32, scale: np.float32, low: np.float32, error: np.float32
) -> np.float32:
    difference = F(F(F(scale * code) + low) - x)
    return F(error + F(w * F(difference * difference)))
