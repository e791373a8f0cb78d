"""ggml's own code, called through ctypes: its decoders judge the bytes that our encoders write, and its encoder stands
in for ours on a CPU where they write others."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from citrate.core.errors import BackendMissingError
from citrate.formats.gguf_file import NUMBERS, TYPES

_FUNCTIONS = {
    "F16": "ggml_fp16_to_fp32_row",
    "BF16": "ggml_bf16_to_fp32_row",
    "Q5_0": "dequantize_row_q5_0",
    "Q5_1": "dequantize_row_q5_1",
    "Q8_0": "dequantize_row_q8_0",
    "Q4_K": "dequantize_row_q4_K",
    "Q5_K": "dequantize_row_q5_K",
    "Q6_K": "dequantize_row_q6_K",
}


def decode(type_name: str, encoded: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
    """Decode ``count`` weights of a ggml type with ggml's code; releases the GIL.

    Raises:
        BackendMissingError: llama-cpp-python, which brings ggml, is not installed.
    """
    weights = np.empty(count, np.float32)
    function = library()[_FUNCTIONS[type_name]]
    function.restype = None
    function(ctypes.c_void_p(encoded.ctypes.data), ctypes.c_void_p(weights.ctypes.data), ctypes.c_int64(count))
    return weights


def quantize(type_name: str, weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Encode flat weights, whole blocks of ``type_name``, by ``ggml_quantize_chunk``; releases the GIL.

    Raises:
        BackendMissingError: llama-cpp-python, which brings ggml, is not installed.
    """
    number = NUMBERS[type_name]
    _, block, size = TYPES[number]
    blocks = weights.size // block
    encoded = np.empty(blocks * size, np.uint8)
    chunk = library().ggml_quantize_chunk
    chunk.restype = ctypes.c_size_t
    chunk(
        ctypes.c_int(number),
        ctypes.c_void_p(weights.ctypes.data),
        ctypes.c_void_p(encoded.ctypes.data),
        ctypes.c_int64(0),
        ctypes.c_int64(blocks),
        ctypes.c_int64(block),  # a row a block: no type looks beyond its block
        None,
    )
    return encoded


@cache
def library() -> ctypes.CDLL:
    """Ggml's shared library, found without importing llama_cpp.

    Raises:
        BackendMissingError: it is not there.
    """
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        raise BackendMissingError("GGUF needs llama-cpp-python", hint="pip install 'citrate[gguf]'")
    suffix = "dylib" if sys.platform == "darwin" else "so"
    path = Path(spec.origin).parent / "lib" / f"libggml-base.{suffix}"
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BackendMissingError(
            f"llama-cpp-python is installed without {path.name}", hint="pip install --force-reinstall llama-cpp-python"
        ) from error
