"""MLX's affine 4-bit groups of 64: the arrays of ``mx.quantize(w, group_size=64, bits=4)``, bit for bit.

Per group, in float32: the edge of larger magnitude is made exactly representable by moving the scale to
``edge / round(edge / scale)``; scale and bias are rounded to the weights' type only after the codes are chosen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from citrate.formats.quantize.jit import kernel
from citrate.formats.quantize.primitives import F, U, widened
from citrate.formats.quantize.rounding import ZERO

GROUP = 64
_LEVELS = F(15)
_SMALLEST_STEP = F(1e-7)


@kernel
def encode_affine4(
    source: NDArray[np.generic],
    codes: NDArray[np.uint32],
    scales: NDArray[np.float32],
    biases: NDArray[np.float32],
    first: int,
    last: int,
) -> None:
    """Encode groups ``first`` to ``last``: eight codes a uint32, the first in the lowest nibble."""
    x = np.empty(GROUP, np.float32)
    q = np.empty(GROUP, np.uint32)
    for group in range(first, last):
        part = source[group * GROUP : group * GROUP + GROUP]
        for i in range(GROUP):
            x[i] = widened(part[i])
        low, high = x[0], x[0]
        for i in range(1, GROUP):
            low = x[i] if x[i] < low else low
            high = x[i] if x[i] > high else high
        step, bias = _scale(low, high)
        scales[group] = step
        biases[group] = bias
        for i in range(GROUP):
            level = F(np.rint(F(F(x[i] - bias) / step)))
            level = ZERO if level < ZERO else level
            level = _LEVELS if level > _LEVELS else level
            q[i] = U(np.int32(level))
        for word in range(GROUP // 8):
            packed = U(0)
            for i in range(8):
                packed |= U(q[word * 8 + i] << U(4 * i))
            codes[group * (GROUP // 8) + word] = packed


@kernel
def _scale(low: np.float32, high: np.float32) -> tuple[np.float32, np.float32]:
    """Step and bias of a group with these extremes."""
    low_edge = abs(low) > abs(high)
    edge = low if low_edge else high
    step = F(F(high - low) / _LEVELS)
    step = _SMALLEST_STEP if step < _SMALLEST_STEP else step
    step = step if low_edge else F(-step)
    level = F(np.rint(F(edge / step)))
    if level != ZERO:
        return F(edge / level), edge
    return step, ZERO


@kernel
def decode_affine4(
    codes: NDArray[np.uint32],
    scales: NDArray[np.float32],
    biases: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """The weights that codes stand for: ``scale * code + bias`` in float32."""
    for word in range(codes.size):
        scale, bias = scales[word // (GROUP // 8)], biases[word // (GROUP // 8)]
        for i in range(8):
            out[word * 8 + i] = F(F(scale * F((codes[word] >> U(4 * i)) & U(15))) + bias)
