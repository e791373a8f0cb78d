"""Encode a piece of a tensor in a ggml type, and decode it again with ggml to see what it lost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from citrate.core.errors import BackendMissingError, FormatError
from citrate.formats import ggml
from citrate.formats.dtypes import Raw, all_finite, to_bfloat16, to_float32
from citrate.formats.gguf_file import NUMBERS, TYPES
from citrate.formats.measure import BlockErrors, compare
from citrate.formats.safetensors_file import Tensor


@dataclass(frozen=True)
class Encoded:
    """The bytes of a piece and its errors; None where the bytes are the source's own."""

    data: NDArray[np.uint8]
    errors: BlockErrors | None
    source_bytes: int


def encode(values: Raw, tensor: Tensor, type_name: str) -> Encoded:
    """Encode flat weights of ``tensor`` (BF16, F16 or F32), whole blocks of ``type_name``.

    Raises:
        FormatError: a weight is too large for the type.
    """
    dtype = tensor.dtype
    if dtype == type_name:
        return Encoded(values.view(np.uint8), None, values.nbytes)
    source: Raw = values if dtype == "BF16" else to_float32(values, dtype)
    if type_name == "F32":
        return Encoded(to_float32(values, dtype).view(np.uint8), None, values.nbytes)  # widening is exact
    if type_name == "BF16":
        halves = to_bfloat16(to_float32(values, dtype))
        if not all_finite(halves, "BF16"):
            raise FormatError(f"tensor {tensor.name!r} holds a weight too large for BF16")
        data = halves.view(np.uint8)
    else:
        data = _kernels().run(type_name, source)
        if type_name == "F16" and not all_finite(data.view(np.uint16), "F16"):
            raise FormatError(
                f"tensor {tensor.name!r} holds a weight too large for F16", hint="use gguf:BF16 or a quantized variant"
            )
    return Encoded(data, compare(source, ggml.decode(type_name, data, source.size)), values.nbytes)


class _Kernels:
    """The compiled encoders; importing them loads numba."""

    def __init__(self) -> None:
        try:
            from citrate.formats.quantize import k_min, k_sym, simple
        except ModuleNotFoundError as error:
            raise BackendMissingError(f"GGUF needs {error.name}", hint="pip install 'citrate[gguf]'") from error
        self._min, self._sym, self._simple = k_min, k_sym, simple

    def run(self, type_name: str, source: Raw) -> NDArray[np.uint8]:
        """Encode ``source``: flat float32, or bfloat16 as uint16."""
        _, block, size = TYPES[NUMBERS[type_name]]
        blocks, rest = divmod(source.size, block)
        if rest:
            raise FormatError(f"{source.size} weights are no whole number of {type_name} blocks")
        out = np.empty(blocks * size, np.uint8)
        if type_name == "F16":
            self._simple.encode_f16(source, out.view(np.uint16), 0, blocks)
        elif type_name == "Q8_0":
            self._simple.encode_q8_0(source, out, 0, blocks)
        elif type_name == "Q5_0":
            self._simple.encode_q5_0(source, out, 0, blocks)
        elif type_name == "Q5_1":
            self._simple.encode_q5_1(source, out, 0, blocks)
        elif type_name == "Q4_K":
            self._min.encode_k_min(source, out, 0, blocks, 15, np.float32(-1.0), 20, size)
        elif type_name == "Q5_K":
            self._min.encode_k_min(source, out, 0, blocks, 31, np.float32(-0.5), 15, size)
        elif type_name == "Q6_K":
            self._sym.encode_k_sym(source, out, 0, blocks, np.float32(-32), np.float32(31))
        else:
            raise FormatError(f"citrate has no encoder for {type_name}")
        return out


@cache
def _kernels() -> _Kernels:
    return _Kernels()
