"""Q6_K: blocks of 256 weights in sixteen sub-blocks, each with a signed 8-bit scale, no minimum.

The bytes are those of ggml's reference code without an importance matrix; see ``k_min`` for why a sub-block is one
SIMD lane and arrays are flat.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from citrate.formats.quantize.jit import kernel
from citrate.formats.quantize.primitives import F, I, clamp, nearest, rounded_within
from citrate.formats.quantize.rounding import ONE, ZERO, from_half_bits, half_bits, load, put_half, transpose

Floats = NDArray[np.float32]

LANES = 128
_LENGTH = 16  # weights in a sub-block
_TILE = LANES * _LENGTH
_SUPER_BLOCKS = _TILE // 256
_UNROLL = 8
_SIZE = 210
_TINY = F(1e-15)  # below this a sub-block counts as zero

# Rows of ``found``:
_EXTREME = LANES * 0  # the weight of largest magnitude, with its sign
_SCALE = LANES * 1
_BEST = LANES * 2  # what the search maximises: (sum of w x l)^2 / sum of w l^2
_BEST_INVERSE = LANES * 3
_INVERSE = LANES * 4
_SUM_XL = LANES * 5
_SUM_L2 = LANES * 6
_FOUND_ROWS = 7


@kernel
def encode_k_sym(
    source: NDArray[np.generic],
    out: NDArray[np.uint8],
    first: int,
    last: int,
    bottom: np.float32,
    top: np.float32,
) -> None:
    """Encode blocks ``first`` to ``last``; ``bottom`` and ``top`` are -32 and 31 (arguments: see ``k_min``)."""
    tile, x, w, wx = (
        np.empty(_TILE, np.float32),
        np.empty(_TILE, np.float32),
        np.empty(_TILE, np.float32),
        np.empty(_TILE, np.float32),
    )
    found = np.empty(_FOUND_ROWS * LANES, np.float32)
    steps, codes = np.empty(256, np.float32), np.empty(256, np.uint8)
    for start in range(first, last, _SUPER_BLOCKS):
        count = min(_SUPER_BLOCKS, last - start)
        load(source, start * 256, count * 256, tile)
        transpose(tile, x, LANES, _LENGTH)
        _search(x, w, wx, found, bottom, top)
        for block in range(count):
            _pack(tile, found, steps, codes, out, (start + block) * _SIZE, block)


@kernel
def _search(x: Floats, w: Floats, wx: Floats, found: Floats, bottom: np.float32, top: np.float32) -> None:
    """Find every lane's scale: the extreme weight at -32, then eighteen neighbours of that, weighted by x^2."""
    for v in range(LANES):
        found[_EXTREME + v] = ZERO
    for i in range(_LENGTH):
        row, ws, wxs = (
            x[i * LANES : (i + 1) * LANES],
            w[i * LANES : (i + 1) * LANES],
            wx[i * LANES : (i + 1) * LANES],
        )
        for v in range(LANES):
            value = row[v]
            ws[v] = F(value * value)
            wxs[v] = F(F(value * value) * value)
            found[_EXTREME + v] = value if abs(value) > abs(found[_EXTREME + v]) else found[_EXTREME + v]
    for v in range(LANES):
        alive = abs(found[_EXTREME + v]) >= _TINY
        found[_INVERSE + v] = F(F(-32) / found[_EXTREME + v]) if alive else ZERO
        found[_BEST_INVERSE + v] = found[_INVERSE + v]
    _sums(x, w, wx, found, bottom, top)
    for v in range(LANES):
        l2 = found[_SUM_L2 + v]
        scale = F(found[_SUM_XL + v] / l2) if l2 != ZERO else ZERO
        found[_SCALE + v] = scale
        found[_BEST + v] = F(scale * found[_SUM_XL + v])
    for k in range(-9, 10):
        if k == 0:
            continue
        numerator = F(-F(F(32) + F(F(0.1) * F(k))))
        for v in range(LANES):
            alive = abs(found[_EXTREME + v]) >= _TINY
            found[_INVERSE + v] = F(numerator / found[_EXTREME + v]) if alive else ZERO
        _sums(x, w, wx, found, bottom, top)
        for v in range(LANES):
            xl, l2 = found[_SUM_XL + v], found[_SUM_L2 + v]
            better = (l2 > ZERO) & (F(xl * xl) > F(found[_BEST + v] * l2))
            scale = F(xl / l2)
            found[_SCALE + v] = scale if better else found[_SCALE + v]
            found[_BEST + v] = F(scale * xl) if better else found[_BEST + v]
            found[_BEST_INVERSE + v] = found[_INVERSE + v] if better else found[_BEST_INVERSE + v]


@kernel
def _sums(x: Floats, w: Floats, wx: Floats, found: Floats, bottom: np.float32, top: np.float32) -> None:
    """Round every weight with the lane's inverse scale; sum weighted codes times x, and their squares."""
    for v in range(LANES):
        found[_SUM_XL + v] = ZERO
        found[_SUM_L2 + v] = ZERO
    for start in range(0, _TILE, _UNROLL * LANES):
        xs, ws, wxs = (
            x[start : start + _UNROLL * LANES],
            w[start : start + _UNROLL * LANES],
            wx[start : start + _UNROLL * LANES],
        )
        for v in range(LANES):
            inverse = found[_INVERSE + v]
            xl, l2 = found[_SUM_XL + v], found[_SUM_L2 + v]
            xl, l2 = _four_codes(xs, ws, wxs, v, inverse, bottom, top, xl, l2)
            xl, l2 = _four_codes(xs, ws, wxs, v + 4 * LANES, inverse, bottom, top, xl, l2)
            found[_SUM_XL + v] = xl
            found[_SUM_L2 + v] = l2


@kernel
def _four_codes(
    xs: Floats,
    ws: Floats,
    wxs: Floats,
    v: int,
    inverse: np.float32,
    bottom: np.float32,
    top: np.float32,
    xl: np.float32,
    l2: np.float32,
) -> tuple[np.float32, np.float32]:
    """Four elements of lane ``v``: added to both sums, in order."""
    xl, l2 = _code(xs[v], ws[v], wxs[v], inverse, bottom, top, xl, l2)
    v += LANES
    xl, l2 = _code(xs[v], ws[v], wxs[v], inverse, bottom, top, xl, l2)
    v += LANES
    xl, l2 = _code(xs[v], ws[v], wxs[v], inverse, bottom, top, xl, l2)
    v += LANES
    return _code(xs[v], ws[v], wxs[v], inverse, bottom, top, xl, l2)


@kernel
def _code(
    x: np.float32,
    w: np.float32,
    wx: np.float32,
    inverse: np.float32,
    bottom: np.float32,
    top: np.float32,
    xl: np.float32,
    l2: np.float32,
) -> tuple[np.float32, np.float32]:
    code = rounded_within(F(inverse * x), bottom, top)  # |inverse * x| < 33: float bounds always hold
    return F(xl + F(wx * code)), F(l2 + F(F(w * code) * code))


@kernel
def _pack(
    tile: Floats,
    found: Floats,
    steps: Floats,
    codes: NDArray[np.uint8],
    out: NDArray[np.uint8],
    at: int,
    block: int,
) -> None:
    """Write block ``block`` of the tile: 128 bytes of low nibbles, 64 of high bits, 16 scales, one half."""
    first = block * 16
    extreme = ZERO
    for j in range(16):
        scale = found[_SCALE + first + j]
        extreme = scale if abs(scale) > abs(extreme) else extreme
    if abs(extreme) < _TINY:
        for i in range(_SIZE):
            out[at + i] = np.uint8(0)
        return
    inverse = F(F(-128) / extreme)
    half = half_bits(F(ONE / inverse))
    put_half(out, at + 208, half)
    unit = from_half_bits(half)
    for j in range(16):
        scale_code = min(nearest(F(inverse * found[_SCALE + first + j])), I(127))
        out[at + 192 + j] = np.uint8(scale_code & 255)
        step = F(unit * F(np.int8(scale_code)))
        for i in range(16):
            steps[j * 16 + i] = step
    x = tile[block * 256 : block * 256 + 256]
    for i in range(256):
        codes[i] = np.uint8(clamp(nearest(F(x[i] / steps[i])), I(-32), I(31)) + 32)
    for j in range(16):
        if steps[j * 16] == ZERO:  # the scale rounded to zero: the search's own integers stay
            best = found[_BEST_INVERSE + first + j]
            for i in range(j * 16, j * 16 + 16):
                searched = clamp(nearest(F(best * x[i])), I(-32), I(31)) + 32
                codes[i] = np.uint8(0) if best == ZERO else np.uint8(searched)
    _pack_codes(codes, out, at)


@kernel
def _pack_codes(codes: NDArray[np.uint8], out: NDArray[np.uint8], at: int) -> None:
    """Spread 256 six-bit codes over low nibbles and high bit pairs, as ggml interleaves them."""
    for k in range(2):
        part = codes[k * 128 : k * 128 + 128]
        low = out[at + k * 64 : at + k * 64 + 64]
        high = out[at + 128 + k * 32 : at + 160 + k * 32]
        for i in range(32):
            a, b, c, d = part[i], part[32 + i], part[64 + i], part[96 + i]
            low[i] = np.uint8((a & 15) | ((c & 15) << 4))
            low[32 + i] = np.uint8((b & 15) | ((d & 15) << 4))
            high[i] = np.uint8((a >> 4) | ((b >> 4) << 2) | ((c >> 4) << 4) | ((d >> 4) << 6))
