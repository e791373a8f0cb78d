"""MLX's affine groups: the arrays of ``mx.quantize(w, group_size=group, bits=bits)`` for 4 and 8 bits, bit for bit.

Per group, in float32: the edge of larger magnitude is made exactly representable by moving the scale to
``edge / round(edge / scale)``; scale and bias are rounded to the weights' type only after the codes are chosen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from citrate.formats.quantize.jit import kernel
from citrate.formats.quantize.primitives import F, U, widened
from citrate.formats.quantize.rounding import ZERO

LANE = 32
"""Weights at a time, in registers; every group size is a multiple of it."""
_SMALLEST_STEP = F(1e-7)


@kernel
def encode_affine(
    source: NDArray[np.generic],
    codes: NDArray[np.uint32],
    scales: NDArray[np.float32],
    biases: NDArray[np.float32],
    group: int,
    bits: int,
    first: int,
    last: int,
) -> None:
    """Encode groups ``first`` to ``last`` of ``group`` weights: 32 / ``bits`` codes a uint32, the first lowest."""
    x = np.empty(LANE, np.float32)
    q = np.empty(LANE, np.uint32)
    levels = F((1 << bits) - 1)
    for index in range(first, last):
        start = index * group
        low = high = widened(source[start])
        for at in range(start, start + group, LANE):
            part = source[at : at + LANE]
            for i in range(LANE):
                x[i] = widened(part[i])
            for i in range(LANE):
                low = x[i] if x[i] < low else low
                high = x[i] if x[i] > high else high
        step, bias = _scale(low, high, levels)
        scales[index] = step
        biases[index] = bias
        for at in range(start, start + group, LANE):
            part = source[at : at + LANE]
            for i in range(LANE):
                level = F(np.rint(F(F(widened(part[i]) - bias) / step)))
                level = ZERO if level < ZERO else level
                level = levels if level > levels else level
                q[i] = U(np.int32(level))
            _pack(q, codes[at * bits // 32 : (at + LANE) * bits // 32], bits)


@kernel
def _pack(q: NDArray[np.uint32], words: NDArray[np.uint32], bits: int) -> None:
    """Codes of ``LANE`` weights into ``bits`` words."""
    if bits == 4:
        for word in range(4):
            packed = U(0)
            for i in range(8):
                packed |= U(q[word * 8 + i] << U(4 * i))
            words[word] = packed
    else:
        for word in range(8):
            packed = U(0)
            for i in range(4):
                packed |= U(q[word * 4 + i] << U(8 * i))
            words[word] = packed


@kernel
def _scale(low: np.float32, high: np.float32, levels: np.float32) -> tuple[np.float32, np.float32]:
    """Step and bias of a group with these extremes and ``levels`` steps between them."""
    low_edge = abs(low) > abs(high)
    edge = low if low_edge else high
    step = F(F(high - low) / levels)
    step = _SMALLEST_STEP if step < _SMALLEST_STEP else step
    step = step if low_edge else F(-step)
    level = F(np.rint(F(edge / step)))
    if level != ZERO:
        return F(edge / level), edge
    return step, ZERO


@kernel
def decode_affine(
    codes: NDArray[np.uint32],
    scales: NDArray[np.float32],
    biases: NDArray[np.float32],
    group: int,
    bits: int,
    out: NDArray[np.float32],
) -> None:
    """The weights that codes stand for: ``scale * code + bias`` in float32."""
    if bits == 4:
        _decode(codes, scales, biases, group, 8, out)
    else:
        _decode(codes, scales, biases, group, 4, out)


@kernel
def _decode(
    codes: NDArray[np.uint32],
    scales: NDArray[np.float32],
    biases: NDArray[np.float32],
    group: int,
    lanes: int,
    out: NDArray[np.float32],
) -> None:
    """``lanes`` codes a word."""
    bits = 32 // lanes
    mask = U((1 << bits) - 1)
    words = group // lanes
    for word in range(codes.size):
        scale, bias, packed = scales[word // words], biases[word // words], codes[word]
        for i in range(lanes):
            out[word * lanes + i] = F(F(scale * F((packed >> U(bits * i)) & mask)) + bias)
