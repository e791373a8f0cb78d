"""Two things numba cannot be told in plain Python: reinterpreting bits, and code that depends on an argument's type.

numba's extension API takes functions of *types* that return functions of *values*, and insists on bare argument
lists, so they stand here, untyped, under typed names.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numba.extending
import numpy as np
from llvmlite import ir

from citrate.formats.quantize.jit import kernel

F, I, U = np.float32, np.int32, np.uint32  # noqa: E741 - the C types' usual letters
_MAGIC = F(12582912.0)  # 1.5 * 2**23: adding it to a small number rounds that to an integer, ties to even
_MANTISSA, _MIDDLE = I(0x7FFFFF), I(0x400000)
_types: Any = numba.types
_intrinsic: Any = numba.extending.intrinsic
_overload: Any = numba.extending.overload


@_intrinsic
def _bits(_context, _value):
    signature = _types.int32(_types.float32)
    return signature, lambda _c, builder, _s, args: builder.bitcast(args[0], ir.IntType(32))


@_intrinsic
def _from_bits(_context, _value):
    signature = _types.float32(_types.int32)
    return signature, lambda _c, builder, _s, args: builder.bitcast(args[0], ir.FloatType())


@_intrinsic
def _multiply_add(_context, _a, _b, _c):
    signature = _types.float32(_types.float32, _types.float32, _types.float32)
    return signature, lambda _ctx, builder, _s, args: builder.fma(*args)


def _rounded_within(t, low, high):
    raise NotImplementedError


def _widened(value):
    raise NotImplementedError


def _stored(value, like):
    raise NotImplementedError


bits: Callable[[np.float32], np.int32] = _bits
"""The int32 with the bits of a float32."""

from_bits: Callable[[np.int32], np.float32] = _from_bits
"""The float32 with the bits of an int32."""

multiply_add: Callable[[np.float32, np.float32, np.float32], np.float32] = _multiply_add
"""``a * b + c``, rounded once."""

rounded_within: Callable[[np.float32, np.number, np.number], np.float32] = _rounded_within
"""A number rounded to the nearest integer and clamped, as float32.

With float bounds it stays in float registers, which is right while its magnitude is at most 4194303; with integer
bounds it does what ggml's code does for every number."""

widened: Callable[[np.generic], np.float32] = _widened
"""A weight as float32: uint16 holds bfloat16, float32 stays."""

stored: Callable[[np.float32, np.generic], np.generic] = _stored
"""A float32 as a weight of the second argument's type, the way back of ``widened``: rounded, ties to even."""


@kernel
def nearest(x: np.float32) -> np.int32:
    """Nearest integer, ties to even, by ggml's trick; out of +-2^22 it yields what ggml's yields."""
    return I(I(bits(F(x + _MAGIC)) & _MANTISSA) - _MIDDLE)


@kernel
def clamp(i: np.int32, low: np.int32, high: np.int32) -> np.int32:
    """``i`` within ``low`` to ``high``."""
    i = low if i < low else i
    return high if i > high else i


@_overload(_rounded_within, inline="always")
def _compile_rounded_within(t, low, high):  # noqa: ARG001 - numba matches them by name
    if isinstance(high, _types.Float):

        def in_float_registers(t, low, high):
            t = F(t + _MAGIC)
            bottom = F(_MAGIC + low)
            top = F(_MAGIC + high)
            t = bottom if t < bottom else t
            t = top if t > top else t
            return F(t - _MAGIC)

        return in_float_registers
    return lambda t, low, high: F(clamp(nearest(t), low, high))


@_overload(_widened, inline="always")
def _compile_widened(value):
    if value == _types.uint16:
        return lambda value: from_bits(I(U(value) << U(16)))
    return lambda value: F(value)


@_overload(_stored, inline="always")
def _compile_stored(value, like):  # noqa: ARG001 - numba matches them by name
    if like == _types.uint16:

        def rounded(value, like):  # noqa: ARG001
            pattern = U(bits(value))
            return np.uint16(U(pattern + U(0x7FFF) + ((pattern >> U(16)) & U(1))) >> U(16))

        return rounded
    return lambda value, like: F(value)  # noqa: ARG005
