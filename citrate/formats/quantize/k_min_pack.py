"""Q4_K and Q5_K, second half: the bytes of a block from what the search found for its eight sub-blocks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from citrate.formats.quantize.jit import kernel
from citrate.formats.quantize.primitives import F, I, clamp, nearest
from citrate.formats.quantize.rounding import ZERO, from_half_bits, half_bits, put_half

Floats = NDArray[np.float32]

_LENGTH = 32  # weights in a sub-block


@kernel
def pack_k_min(
    tile: Floats,
    scales: Floats,
    lows: Floats,
    best_inverses: Floats,
    best_lows: Floats,
    codes: NDArray[np.uint8],
    out: NDArray[np.uint8],
    at: int,
    block: int,
    levels: int,
    five_bits: bool,
) -> None:
    """Write block ``block`` of the tile at ``out[at:]``: two halves, 12 bytes of scales, (fifth bits,) nibbles."""
    first = block * 8
    top_scale, top_min = ZERO, ZERO
    for j in range(8):
        scale, low = scales[first + j], F(-lows[first + j])
        top_scale = scale if scale > top_scale else top_scale
        top_min = low if low > top_min else top_min
    to_scale = F(F(63) / top_scale) if top_scale > ZERO else ZERO
    to_min = F(F(63) / top_min) if top_min > ZERO else ZERO
    half_scale, half_min = half_bits(F(top_scale / F(63))), half_bits(F(top_min / F(63)))
    put_half(out, at, half_scale)
    put_half(out, at + 2, half_min)
    unit_scale, unit_min = from_half_bits(half_scale), from_half_bits(half_min)
    for j in range(12):
        out[at + 4 + j] = np.uint8(0)
    for j in range(8):
        v = first + j
        scale_code = min(I(nearest(F(to_scale * scales[v])) & I(255)), I(63))
        min_code = min(I(nearest(F(to_min * F(-lows[v]))) & I(255)), I(63))
        _pack_scales(out, at + 4, j, scale_code, min_code)
        step, low = F(unit_scale * F(scale_code)), F(unit_min * F(min_code))
        part = tile[v * _LENGTH : (v + 1) * _LENGTH]
        _final_codes(part, codes[j * 32 : j * 32 + 32], step, low, best_inverses[v], best_lows[v], levels)
    at += 16
    if five_bits:
        for i in range(32):
            high = 0
            for j in range(8):
                high |= (codes[j * 32 + i] >> 4) << j
            out[at + i] = np.uint8(high)
        at += 32
    for j in range(4):
        for i in range(32):
            out[at + j * 32 + i] = np.uint8((codes[j * 64 + i] & 15) | ((codes[j * 64 + 32 + i] & 15) << 4))


@kernel
def _final_codes(
    x: Floats,
    codes: NDArray[np.uint8],
    step: np.float32,
    low: np.float32,
    best_inverse: np.float32,
    best_min: np.float32,
    levels: int,
) -> None:
    """Round once more, with the scale as it will be decoded; where that became zero the search's integers stay."""
    if step != ZERO:
        for i in range(_LENGTH):
            codes[i] = np.uint8(clamp(nearest(F(F(x[i] + low) / step)), I(0), I(levels)))
    else:
        for i in range(_LENGTH):
            codes[i] = np.uint8(clamp(nearest(F(best_inverse * F(x[i] - best_min))), I(0), I(levels)))


@kernel
def _pack_scales(out: NDArray[np.uint8], at: int, j: int, scale: np.int32, low: np.int32) -> None:
    """Store the 6-bit scale and minimum of sub-block ``j`` in the twelve bytes at ``at``, as ggml interleaves them."""
    if j < 4:
        out[at + j] = np.uint8(scale)
        out[at + 4 + j] = np.uint8(low)
    else:
        out[at + 4 + j] = np.uint8((scale & 15) | ((low & 15) << 4))
        out[at + j - 4] |= np.uint8((scale >> 4) << 6)
        out[at + j] |= np.uint8((low >> 4) << 6)
