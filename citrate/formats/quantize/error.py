"""How far decoded weights are from the source's, a block at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from citrate.formats.quantize.jit import kernel
from citrate.formats.quantize.primitives import F, widened

_LANES = 64  # partial sums, several vectors of them: one alone would wait for each addition before the next


@kernel
def squared_errors(
    source: NDArray[np.generic],
    decoded: NDArray[np.float32],
    length: int,
    errors: NDArray[np.float32],
    norms: NDArray[np.float32],
) -> None:
    """For each block of ``length`` weights (the last may be shorter), the squared differences and weights, summed."""
    error, norm = np.empty(_LANES, np.float32), np.empty(_LANES, np.float32)
    for block in range(errors.size):
        x = source[block * length : (block + 1) * length]
        y = decoded[block * length : (block + 1) * length]
        for v in range(_LANES):
            error[v] = F(0)
            norm[v] = F(0)
        whole = x.size - x.size % _LANES
        for i in range(0, whole, _LANES):
            a, b = x[i : i + _LANES], y[i : i + _LANES]
            for v in range(_LANES):
                value = widened(a[v])
                difference = F(value - b[v])
                error[v] += F(difference * difference)
                norm[v] += F(value * value)
        for i in range(whole, x.size):
            value = widened(x[i])
            error[0] += F(F(value - y[i]) * F(value - y[i]))
            norm[0] += F(value * value)
        errors[block] = error.sum()
        norms[block] = norm.sum()
