"""Measure, while a tensor is being written, how far its encoded weights are from the source's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

import numpy as np
from numpy.typing import NDArray

from citrate.core.errors import FormatError
from citrate.core.records import Check
from citrate.formats.extras import importing

_BLOCK = 256
_QUIET = 0.1
"""Blocks with less than this share of their tensor's root mean square are judged as if they had it."""
_SMALLEST_RMS = 1e-3
"""Half-precision scales lose digits below this, whatever the encoder does."""

LIMITS: Mapping[str, float] = {
    # relative error of a block when all weights but the extreme one lie half a step off, and some room
    "F32": 0.0,
    "F16": 0.001,
    "BF16": 0.004,
    "Q8_0": 0.03,
    "Q6_K": 0.08,
    "Q5_K": 0.12,
    "Q5_1": 0.12,
    "Q5_0": 0.2,
    "Q4_K": 0.25,
    # MLX rounds scales and biases to the weights' own type: half a step, and twice half a digit of bfloat16
    "affine4-g32": 0.22,
    "affine4": 0.3,
    "affine4-g128": 0.43,
    "affine8-g32": 0.035,
    "affine8": 0.05,
    "affine8-g128": 0.07,
    # ModelOpt's: half a step of three or one bits of mantissa; of four bits whose scale 128 weights share
    "fp8": 0.07,
    "nvfp4": 0.3,
    "w4a16_awq": 0.4,
}


@dataclass(frozen=True)
class BlockErrors:
    """Sums of squared errors and of squared weights, one for each block of 256 weights of a piece of a tensor."""

    errors: NDArray[np.float32]
    norms: NDArray[np.float32]


def compare(source: NDArray[np.generic], decoded: NDArray[np.float32]) -> BlockErrors:
    """Compare a piece with its decoding. ``source`` is flat float32, or bfloat16 as uint16."""
    with importing("comparing weights", extra="gguf"):
        from citrate.formats.quantize.error import squared_errors

    blocks = -(-source.size // _BLOCK)
    errors, norms = np.empty(blocks, np.float32), np.empty(blocks, np.float32)
    squared_errors(source, decoded, _BLOCK, errors, norms)
    return BlockErrors(errors, norms)


class TensorErrors:
    """Collects the errors of a variant's tensors and judges each against the limit of its type."""

    def __init__(self) -> None:
        self._worst: dict[str, float] = {}

    def judge(self, tensor: str, type_name: str, pieces: Sequence[BlockErrors]) -> None:
        """Add a finished tensor.

        Raises:
            FormatError: a block of it is farther from the source than its type allows.
        """
        worst = _worst_block(pieces)
        self._worst[type_name] = max(worst, self._worst.get(type_name, 0.0))
        if not worst <= LIMITS[type_name]:
            raise FormatError(
                f"check 'tensor error {type_name}' failed: {tensor} is {rounded_up(worst)} from its source, "
                f"limit {LIMITS[type_name]}",
                hint="this is a fault of the converter: please report it",
            )

    @property
    def types(self) -> frozenset[str]:
        """The types of the tensors that were judged."""
        return frozenset(self._worst)

    def checks(self) -> tuple[Check, ...]:
        """One check a type: its worst block."""
        return tuple(
            Check(f"tensor error {name}", True, rounded_up(self._worst[name]), rounded_up(LIMITS[name]))
            for name in sorted(self._worst)
        )


def rounded_up(value: float) -> str:
    """A non-negative number as a decimal string of at most two significant digits, never smaller than it is."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    exact = Decimal(repr(float(value)))
    digits = exact.quantize(Decimal(1).scaleb(exact.adjusted() - 1), rounding=ROUND_CEILING)
    return f"{digits.normalize():f}"


def _worst_block(pieces: Sequence[BlockErrors]) -> float:
    """The largest relative error of a block."""
    if not pieces:
        return 0.0
    errors = np.concatenate([piece.errors for piece in pieces]).astype(np.float64)
    norms = np.concatenate([piece.norms for piece in pieces]).astype(np.float64)
    floor = max(_QUIET**2 * float(norms.mean()), _SMALLEST_RMS**2 * _BLOCK)
    return math.sqrt(float((errors / np.maximum(norms, floor)).max()))
