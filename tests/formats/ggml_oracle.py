"""ggml's and llama.cpp's own quantizers, for comparison."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from citrate.formats.ggml import library
from citrate.formats.gguf_file import NUMBERS, TYPES


def quantize_chunk(type_name: str, weights: NDArray[np.float32], columns: int = 256) -> NDArray[np.uint8]:
    """What ``ggml_quantize_chunk`` writes for flat ``weights`` in rows of ``columns``."""
    ggml = library()
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_init(ctypes.c_int(NUMBERS[type_name]))
    _, block, size = TYPES[NUMBERS[type_name]]
    out = np.zeros(weights.size // block * size, np.uint8)
    ggml.ggml_quantize_chunk(
        ctypes.c_int(NUMBERS[type_name]),
        ctypes.c_void_p(weights.ctypes.data),
        ctypes.c_void_p(out.ctypes.data),
        ctypes.c_int64(0),
        ctypes.c_int64(weights.size // columns),
        ctypes.c_int64(columns),
        None,
    )
    return out


def model_quantize(source: Path, target: Path, file_type: int) -> None:
    """Run ``llama_model_quantize`` in a process of its own."""
    model_quantize_all(source, {target: file_type})


def model_quantize_all(source: Path, targets: Mapping[Path, int]) -> None:
    """Run ``llama_model_quantize`` for every (file, file type), in one process of its own."""
    code = (
        "import ctypes, sys, llama_cpp as l\n"
        "for target, file_type in zip(sys.argv[2::2], sys.argv[3::2]):\n"
        "    p = l.llama_model_quantize_default_params(); p.ftype = int(file_type); p.nthread = 1\n"
        "    if l.llama_model_quantize(sys.argv[1].encode(), target.encode(), ctypes.byref(p)):\n"
        "        sys.exit(target)"
    )
    pairs = [text for target, file_type in targets.items() for text in (str(target), str(file_type))]
    subprocess.run([sys.executable, "-c", code, str(source), *pairs], check=True, capture_output=True)
