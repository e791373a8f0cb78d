"""F16, Q8_0, Q5_0 and Q5_1: one scale a block and no search. The bytes of ggml's reference code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from citrate.formats.quantize.jit import kernel
from citrate.formats.quantize.primitives import F, I, bits, from_bits, widened
from citrate.formats.quantize.rounding import ONE, ZERO, from_half_bits, half_bits, put_half


@kernel
def encode_f16(source: NDArray[np.generic], out: NDArray[np.uint16], first: int, last: int) -> None:
    """Weights ``first`` to ``last`` in half precision."""
    part, halves = source[first:last], out[first:last]  # slices: an index of unknown sign stops the vectoriser
    for i in range(halves.size):
        halves[i] = np.uint16(half_bits(widened(part[i])))


@kernel
def decode_f16(halves: NDArray[np.uint16], out: NDArray[np.float32]) -> None:
    """Finite half-precision weights in float32."""
    for i in range(out.size):
        out[i] = from_half_bits(I(halves[i]))


@kernel
def encode_q8_0(source: NDArray[np.generic], out: NDArray[np.uint8], first: int, last: int) -> None:
    """Blocks of 32 weights: a half-precision scale, then 32 signed bytes."""
    x = np.empty(32, np.float32)
    for block in range(first, last):
        part = source[block * 32 : block * 32 + 32]
        codes = out[block * 34 + 2 : block * 34 + 34]
        top = I(0)  # magnitudes compared as integers: an integer maximum may be reassociated, a float one not
        for i in range(32):
            value = widened(part[i])
            x[i] = value
            top = max(top, I(bits(value) & I(0x7FFFFFFF)))
        scale = F(from_bits(top) / F(127))
        inverse = F(ONE / scale) if scale != ZERO else ZERO
        put_half(out, block * 34, half_bits(scale))
        for i in range(32):
            value = F(x[i] * inverse)
            magnitude = F(abs(value))
            magnitude = magnitude if magnitude < F(1e6) else ZERO  # 1/scale overflowed: C's cast ends as 0 on x86
            code = I(magnitude)
            code = I(code + (I(1) if F(magnitude - F(code)) >= F(0.5) else I(0)))
            codes[i] = np.uint8((-code if value < ZERO else code) & 255)


@kernel
def put_fifth_bits(out: NDArray[np.uint8], at: int, codes: NDArray[np.int32]) -> None:
    """Store 32 codes of five bits at ``out[at:at + 20]``: their fifth bits, then their low nibbles in pairs."""
    for byte in range(4):
        fifth = 0
        for i in range(8):
            fifth |= ((codes[byte * 8 + i] >> 4) & 1) << i
        out[at + byte] = np.uint8(fifth)
    for i in range(16):
        out[at + 4 + i] = np.uint8((codes[i] & 15) | ((codes[i + 16] & 15) << 4))


@kernel
def encode_q5_0(source: NDArray[np.generic], out: NDArray[np.uint8], first: int, last: int) -> None:
    """Blocks of 32 weights: a half-precision scale, 32 fifth bits, 16 bytes of low nibbles (i and i + 16)."""
    x = np.empty(32, np.float32)
    codes = np.empty(32, np.int32)
    for block in range(first, last):
        part = source[block * 32 : block * 32 + 32]
        extreme, top = ZERO, ZERO
        for i in range(32):
            value = widened(part[i])
            x[i] = value
            if abs(value) > top:
                top, extreme = F(abs(value)), value
        scale = F(extreme / F(-16))
        inverse = F(ONE / scale) if scale != ZERO else ZERO
        put_half(out, block * 22, half_bits(scale))
        for i in range(32):
            code = F(F(x[i] * inverse) + F(16.5))
            code = code if abs(code) < F(1e6) else ZERO  # 1/scale overflowed, as above
            codes[i] = min(I(31), I(code))
        put_fifth_bits(out, block * 22 + 2, codes)


@kernel
def encode_q5_1(source: NDArray[np.generic], out: NDArray[np.uint8], first: int, last: int) -> None:
    """Blocks of 32 weights: scale and minimum, 32 fifth bits, 16 bytes of low nibbles (i and i + 16)."""
    x = np.empty(32, np.float32)
    codes = np.empty(32, np.int32)
    for block in range(first, last):
        part = source[block * 32 : block * 32 + 32]
        low, high = F(3.4028235e38), F(-3.4028235e38)
        for i in range(32):
            value = widened(part[i])
            x[i] = value
            low = value if value < low else low  # of two zeros the first: its sign is stored
            high = value if value > high else high
        scale = F(F(high - low) / F(31))
        inverse = F(ONE / scale) if scale != ZERO else ZERO
        put_half(out, block * 24, half_bits(scale))
        put_half(out, block * 24 + 2, half_bits(low))
        for i in range(32):
            code = F(F(F(x[i] - low) * inverse) + F(0.5))
            code = code if abs(code) < F(1e6) else ZERO  # 1/scale overflowed, as above
            codes[i] = I(code)
        put_fifth_bits(out, block * 24 + 4, codes)
