"""MLX's affine quantization: rows in groups, each with a scale and a bias, codes packed into uint32 words.

Codes lie in a row one after the other as a little-endian stream of bits, so widths that do not divide 32 (3, 5, 6)
cross words. MLX decodes in the scales' own type and rounds after the product and after the sum; so do we.
Source: `mx.quantize` and `mx.dequantize` (https://ml-explore.github.io/mlx).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from citrate.formats.dtypes import Raw, to_bfloat16, to_float32
from citrate.formats.extras import importing


@dataclass(frozen=True)
class Affine:
    """How weights are quantised."""

    bits: int
    group: int
    """Weights of a row that share a scale and a bias."""

    @property
    def kind(self) -> str:
        """The name under which its errors are judged: ``affine4``, ``affine8-g32``."""
        return f"affine{self.bits}" + ("" if self.group == 64 else f"-g{self.group}")

    @property
    def arguments(self) -> Mapping[str, str]:
        """As they stand in a manifest."""
        return {"bits": str(self.bits), "group_size": str(self.group), "mode": "affine"}

    def words(self, columns: int) -> int:
        """How many uint32 hold a row's codes."""
        return columns * self.bits // 32


WRITTEN: Mapping[str, Affine | None] = {
    # what follows ``mlx:`` in a variant; groups of 64 are mlx-lm's default and not named
    "": None,
    "4bit": Affine(4, 64),
    "4bit-g32": Affine(4, 32),
    "4bit-g128": Affine(4, 128),
    "8bit": Affine(8, 64),
    "8bit-g32": Affine(8, 32),
    "8bit-g128": Affine(8, 128),
}
"""The quantizations that citrate writes."""


@dataclass(frozen=True)
class Encoded:
    """Rows of a matrix, quantised, and what they decode to in float32."""

    codes: Raw
    scales: Raw
    biases: Raw
    decoded: NDArray[np.float32]


def encode(source: Raw, dtype: str, affine: Affine) -> Encoded:
    """Quantise flat rows of whole groups.

    Args:
        source: the weights: bfloat16 as uint16, or float32.
        dtype: the type that scales and biases are rounded to: BF16, F16 or F32.
        affine: 4 or 8 bits.

    Raises:
        BackendMissingError: numba is not installed.
    """
    with importing("MLX", extra="mlx"):
        from citrate.formats.quantize.affine import decode_affine, encode_affine
    groups = source.size // affine.group
    codes = np.empty(affine.words(source.size), np.uint32)
    steps, edges = np.empty(groups, np.float32), np.empty(groups, np.float32)
    encode_affine(source, codes, steps, edges, affine.group, affine.bits, 0, groups)
    scales, biases = narrow(steps, dtype), narrow(edges, dtype)
    decoded = np.empty(source.size, np.float32)
    wide = to_float32(scales, dtype), to_float32(biases, dtype)
    decode_affine(codes, *wide, affine.group, affine.bits, decoded)
    return Encoded(codes, scales, biases, decoded)


def decode(codes: Raw, scales: Raw, biases: Raw, dtype: str, affine: Affine) -> Raw:
    """The weights of flat rows in the type of their scales, bit for bit those of ``mx.dequantize`` on a CPU.

    Args:
        codes: uint32 words of whole rows.
        scales: one a group, as they lie on disk.
        biases: one a group.
        dtype: of scales and biases, and of what comes back.
        affine: any width that MLX has.
    """
    levels = _unpacked(codes.view(np.uint8), affine.bits).reshape(-1, affine.group).astype(np.float32)
    products = _rounded(levels * to_float32(scales, dtype)[:, None], dtype)
    return narrow((products + to_float32(biases, dtype)[:, None]).reshape(-1), dtype)


def narrow(values: NDArray[np.float32], dtype: str) -> Raw:
    """Round float32 to BF16, F16 or F32, ties to even; a value too large for F16 becomes infinite."""
    if dtype == "BF16":
        return to_bfloat16(values)
    if dtype == "F16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16).view(np.uint16)
    return values


def _rounded(values: NDArray[np.float32], dtype: str) -> NDArray[np.float32]:
    return to_float32(narrow(values, dtype), dtype)


def _unpacked(stream: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """The codes in a stream of bits."""
    if bits == 8:
        return stream
    if bits == 4:
        return np.stack((stream & 15, stream >> 4), axis=-1).reshape(-1)
    places = np.unpackbits(stream, bitorder="little").reshape(-1, bits)
    return np.packbits(places, axis=-1, bitorder="little").reshape(-1)
