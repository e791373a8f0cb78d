"""Whether the weights of a GGUF file are numbers: floats themselves, and the scales of quantised blocks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from citrate.core.errors import FormatError
from citrate.formats.companions import named
from citrate.formats.dtypes import all_finite
from citrate.formats.gguf_file import NUMBERS, TYPES, GgufHeader, GgufTensor

_PIECE_BLOCKS = 1 << 15
_STORAGE: Mapping[int, np.dtype[Any]] = {2: np.dtype(np.uint16), 4: np.dtype(np.float32), 8: np.dtype(np.float64)}
_FLOATS = ("F32", "F16", "BF16", "F64")
_SCALES: Mapping[str, slice] = {
    # type: where in a block its half-precision scales lie
    **dict.fromkeys(("Q4_0", "Q5_0", "Q8_0", "IQ4_NL"), slice(0, 2)),
    **dict.fromkeys(("Q4_1", "Q5_1", "Q4_K", "Q5_K"), slice(0, 4)),
    "Q2_K": slice(80, 84),
    "Q3_K": slice(108, 110),
    "Q6_K": slice(208, 210),
}


def not_finite(path: Path, header: GgufHeader) -> tuple[str, ...]:
    """A finding that names the tensors with NaN or infinite weights; reads all of them.

    Raises:
        FormatError: the file cannot be read, or became shorter.
    """
    try:
        mapped = np.memmap(path, np.uint8, "r")
        wrong = [tensor.name for tensor in header.tensors if not _is_finite(mapped, tensor)]
    except (OSError, ValueError) as error:
        raise FormatError(f"{path.name} cannot be read to its end") from error
    return (f"NaN or infinite weights: {named(wrong)}",) if wrong else ()


def _is_finite(mapped: np.memmap, tensor: GgufTensor) -> bool:
    _, _, size = TYPES[NUMBERS[tensor.type_name]]
    data = mapped[tensor.offset : tensor.offset + tensor.size_bytes]
    if tensor.type_name in _FLOATS:
        return all_finite(data.view(_STORAGE[size]), tensor.type_name)
    scales = _SCALES.get(tensor.type_name)
    if scales is None:
        return True
    blocks = data.reshape(-1, size)
    pieces = (blocks[first : first + _PIECE_BLOCKS, scales] for first in range(0, len(blocks), _PIECE_BLOCKS))
    return all(all_finite(np.ascontiguousarray(piece).reshape(-1).view(np.uint16), "F16") for piece in pieces)
