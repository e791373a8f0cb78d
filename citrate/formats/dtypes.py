"""Element types of safetensors tensors: their widths, how they widen to float32, and whether a value is finite."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Raw: TypeAlias = NDArray[np.generic]
"""Elements as they lie on disk: uint16 for BF16 and F16, float32 for F32, uint8 where numpy has no such type."""

STORAGE: dict[str, type[np.generic]] = {
    "BOOL": np.uint8,
    "U8": np.uint8,
    "I8": np.int8,
    "F8_E4M3": np.uint8,
    "F8_E5M2": np.uint8,
    "F8_E8M0": np.uint8,
    "F8_E4M3FNUZ": np.uint8,
    "F8_E5M2FNUZ": np.uint8,
    "F4": np.uint8,
    "F6_E2M3": np.uint8,
    "F6_E3M2": np.uint8,
    "I16": np.int16,
    "U16": np.uint16,
    "F16": np.uint16,
    "BF16": np.uint16,
    "I32": np.int32,
    "U32": np.uint32,
    "F32": np.float32,
    "F64": np.float64,
    "I64": np.int64,
    "U64": np.uint64,
    "C64": np.uint64,
}

_PACKED_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
"""Types whose elements are no whole bytes; their storage is the bytes."""

CONVERTIBLE = ("BF16", "F16", "F32")
"""The types our converters read."""

_SCAN_BYTES = 1 << 18  # a slice that stays in the L2 cache

_NOT_FINITE: dict[str, tuple[type[np.unsignedinteger], int, int]] = {
    # type: unsigned view, mask without the sign, smallest pattern that is not finite
    "F16": (np.uint16, 0x7FFF, 0x7C00),
    "BF16": (np.uint16, 0x7FFF, 0x7F80),
    "F32": (np.uint32, 0x7FFFFFFF, 0x7F800000),
    "F64": (np.uint64, 0x7FFFFFFFFFFFFFFF, 0x7FF0000000000000),
    "F8_E4M3": (np.uint8, 0x7F, 0x7F),
    "F8_E5M2": (np.uint8, 0x7F, 0x7C),
}


def width(dtype: str) -> int:
    """Bytes of one item of a type's storage: one element, but for types that pack several into bytes."""
    return np.dtype(STORAGE[dtype]).itemsize


def bits(dtype: str) -> int:
    """Bits of one element; ``dtype`` is a key of ``STORAGE``."""
    return _PACKED_BITS.get(dtype) or 8 * width(dtype)


def all_finite(values: Raw, dtype: str) -> bool:
    """Whether no element is NaN or infinite (integers always are finite). ``values`` is flat."""
    if dtype not in _NOT_FINITE:
        return True
    unsigned, mask, bound = _NOT_FINITE[dtype]
    bits = values.view(unsigned)
    step = _SCAN_BYTES // bits.itemsize
    return all(int((bits[i : i + step] & unsigned(mask)).max()) < bound for i in range(0, bits.size, step))


def to_float32(values: Raw, dtype: str) -> NDArray[np.float32]:
    """Widen BF16, F16 or F32 elements; exact for all three."""
    if dtype == "BF16":
        wide = values.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    if dtype == "F16":
        return values.view(np.float16).astype(np.float32)
    return values.view(np.float32)


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round finite float32 to bfloat16, ties to even; returns the bits."""
    bits = np.ascontiguousarray(values).view(np.uint32).reshape(-1)
    halves = np.empty(bits.size, np.uint16)
    step = _SCAN_BYTES // 8
    for start in range(0, bits.size, step):  # in the cache, and in place
        part = bits[start : start + step]
        rounded = part >> 16
        rounded &= 1
        rounded += np.uint32(0x7FFF)
        rounded += part
        rounded >>= 16
        halves[start : start + step] = rounded
    return halves.reshape(values.shape)
