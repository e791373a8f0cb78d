"""The roundings that encoded bytes depend on, written so that LLVM vectorises them.

``float32`` arithmetic is spelled out operation by operation (``F(a * b)``), because numba would otherwise widen to
double and round differently from C.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from citrate.formats.quantize.jit import kernel
from citrate.formats.quantize.primitives import F, I, bits, from_bits, widened

ZERO, ONE = F(0), F(1)


@kernel
def half_bits(x: np.float32) -> np.int32:
    """The bits of ``x`` in IEEE half precision, ties to even; past 65520 infinity."""
    pattern = bits(x)
    sign = I((pattern >> 16) & 0x8000)
    magnitude = I(pattern & I(0x7FFFFFFF))
    special = I(0x7E00) if magnitude > I(0x7F800000) else I(0x7C00)
    subnormal = I(bits(F(from_bits(magnitude) + F(0.5))) - I(0x3F000000))  # the addition rounds at 2**-24
    normal = I(I(magnitude + I(0xFFF) + I((magnitude >> 13) & 1) - I(0x38000000)) >> 13)
    result = subnormal if magnitude < I(0x38800000) else normal
    result = special if magnitude >= I(0x477FF000) else result
    return I(sign | result)


@kernel
def from_half_bits(h: np.int32) -> np.float32:
    """The float32 that half-precision bits (no NaN) stand for."""
    magnitude = I(h & 0x7FFF)
    value = F(from_bits(I(magnitude << 13)) * F(5.192296858534828e33))  # 2**112 rebiases the exponent
    value = F(np.inf) if magnitude == 0x7C00 else value
    return from_bits(I(bits(value) | I(I(h & 0x8000) << 16)))


@kernel
def put_half(out: NDArray[np.uint8], at: int, h: np.int32) -> None:
    """Store half-precision bits at ``out[at:at + 2]``, little-endian."""
    out[at] = np.uint8(h & 255)
    out[at + 1] = np.uint8((h >> 8) & 255)


@kernel
def load(source: NDArray[np.generic], start: int, count: int, tile: NDArray[np.float32]) -> None:
    """Widen ``source[start:start + count]`` into ``tile`` and fill the rest with zeros."""
    part = source[start : start + count]
    for i in range(part.size):
        tile[i] = widened(part[i])
    for i in range(count, tile.size):
        tile[i] = ZERO


@kernel
def transpose(tile: NDArray[np.float32], lanes_first: NDArray[np.float32], lanes: int, length: int) -> None:
    """Blocks of ``length`` weights after each other -> element ``i`` of all ``lanes`` blocks side by side."""
    for i in range(length):
        for v in range(lanes):
            lanes_first[i * lanes + v] = tile[v * length + i]
