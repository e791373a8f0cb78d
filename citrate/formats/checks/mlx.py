"""MLX's own decoder: the judge of quantised MLX weights, which are too slow to be run where there is no GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from citrate.core.errors import BackendMissingError
from citrate.formats.mlx_source import Packed
from citrate.formats.safetensors_file import Tensor
from citrate.formats.streaming import read_rows, row_ranges

if TYPE_CHECKING:
    import mlx.core as mx


def rows(matrix: Packed) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """A quantised matrix as ``mx.dequantize`` decodes it, a few rows at a time: first row, and flat rows.

    Raises:
        BackendMissingError: mlx is not installed.
    """
    for first, last in row_ranges(matrix.codes):
        yield first, _decoded(matrix, first, last)


def _decoded(matrix: Packed, first: int, last: int) -> NDArray[np.float32]:
    try:
        import mlx.core as mx
    except ModuleNotFoundError as error:
        raise BackendMissingError("checking MLX needs mlx", hint="pip install 'citrate[mlx]'") from error
    affine = matrix.affine
    codes = mx.array(read_rows(matrix.codes, first, last).reshape(last - first, -1))
    scales, biases = (_array(tensor, first, last) for tensor in (matrix.scales, matrix.biases))
    weights = mx.dequantize(codes, scales, biases, group_size=affine.group, bits=affine.bits)
    return np.array(weights.astype(mx.float32)).reshape(-1)


def _array(tensor: Tensor, first: int, last: int) -> mx.array:
    import mlx.core as mx

    types = {"BF16": mx.bfloat16, "F16": mx.float16, "F32": mx.float32}
    return mx.array(read_rows(tensor, first, last).reshape(last - first, -1)).view(types[tensor.dtype])
