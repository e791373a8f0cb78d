"""A quantised checkpoint as float32 again, and activations as the engine rounds them.

Layouts of ModelOpt's unified checkpoint (nvidia-modelopt 0.47, ``modelopt/torch/export/quant_utils.py``):

* fp8: E4M3 weights and one float32 scale; one scale for the inputs.
* nvfp4: two E2M1 weights a byte, the low nibble first; an E4M3 scale for 16 weights of a row, times a float32 scale of
  the tensor; inputs likewise, their scales for 16 found while running.
* w4a16_awq: two signed 4-bit weights a byte, from two neighbouring rows; a scale for 128 weights of a row. Columns are
  multiplied by ``pre_quant_scale``, where that was not folded into the norm before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from citrate.formats.checks.network import Pieces, Weights
from citrate.formats.dtypes import to_float32
from citrate.formats.safetensors_file import Tensor
from citrate.formats.source import SourceModel
from citrate.formats.streaming import read_rows, row_ranges
from citrate.formats.tensorrt.schemes import Scheme

if TYPE_CHECKING:
    import torch

_E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
_E2M1_HALFWAY = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)
_E2M1_MAX, _E4M3_MAX = 6.0, 448.0
_BLOCK = 16

Rows: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Matrix:
    """A quantised matrix: its parts, by what follows the layer's name."""

    scheme: Scheme
    name: str
    parts: dict[str, Tensor]

    def pieces(self) -> Pieces:
        """The matrix as float32, a few rows at a time."""
        packed = 2 if self.scheme.name == "w4a16_awq" else 1  # rows
        for first, last in row_ranges(self.parts["weight"]):
            yield first * packed, self.rows(first, last).reshape(-1)

    def rows(self, first: int, last: int) -> Rows:
        """Rows as they are packed, ``first`` to ``last`` (exclusive), as float32."""
        codes = read_rows(self.parts["weight"], first, last).view(np.uint8).reshape(last - first, -1)
        if self.scheme.name == "fp8":
            values: Rows = _e4m3()[codes] * self._number("weight_scale")
            return values
        if self.scheme.name == "nvfp4":
            values = _E2M1[np.stack((codes & 15, codes >> 4), axis=-1).reshape(last - first, -1)]
            steps = _e4m3()[read_rows(self.parts["weight_scale"], first, last).view(np.uint8)]
            scales = steps * self._number("weight_scale_2")
            values *= np.repeat(scales.reshape(last - first, -1), self.scheme.group, axis=1)
            return values
        halves = np.stack((codes & 15, codes >> 4), axis=1).reshape(2 * (last - first), -1)
        signed = (halves.astype(np.int8) ^ 8) - 8
        scales = _floats(self.parts["weight_scale"], 2 * first, 2 * last).reshape(2 * (last - first), -1)
        values = signed.astype(np.float32) * np.repeat(scales, self.scheme.group, axis=1)
        return values * self.vector("pre_quant_scale") if "pre_quant_scale" in self.parts else values

    def vector(self, part: str) -> Rows:
        """A part of one dimension."""
        return _floats(self.parts[part], 0, 1)

    def _number(self, part: str) -> np.float32:
        return np.float32(self.vector(part)[0])


def matrices(written: SourceModel, scheme: Scheme) -> dict[str, Matrix]:
    """The quantised matrices of a checkpoint, by the name of their weight."""
    parts: dict[str, dict[str, Tensor]] = {}
    for tensor in written.tensors:
        layer, _, part = tensor.name.rpartition(".")
        parts.setdefault(layer, {})[part] = tensor
    return {
        f"{layer}.weight": Matrix(scheme, f"{layer}.weight", found)
        for layer, found in parts.items()
        if "weight_scale" in found and "weight" in found
    }


def parameters(written: SourceModel, scheme: Scheme) -> int:
    """How many weights a checkpoint stands for: each of those that are packed, and no scale."""
    quantised = matrices(written, scheme)
    scales = {part.name for matrix in quantised.values() for key, part in matrix.parts.items() if key != "bias"}
    packed = sum(matrix.parts["weight"].elements for matrix in quantised.values())
    return scheme.packed * packed + sum(tensor.elements for tensor in written.tensors if tensor.name not in scales)


def weights(written: SourceModel, scheme: Scheme) -> Weights:
    """Every parameter of a checkpoint as float32."""
    quantised = matrices(written, scheme)
    readers: dict[str, Callable[[], Pieces]] = {name: matrix.pieces for name, matrix in quantised.items()}
    used = {part.name for matrix in quantised.values() for key, part in matrix.parts.items() if key != "bias"}
    for tensor in written.tensors:
        if tensor.name not in used:
            readers[tensor.name] = partial(_plain, tensor)
    return readers


def round_inputs(network: torch.nn.Module, written: SourceModel, scheme: Scheme) -> None:
    """Have the linear layers of ``network`` round their inputs as the engine does, by the scales of the checkpoint."""
    rounders = {"fp8": _round_e4m3, "nvfp4": _round_e2m1}
    if scheme.name not in rounders:
        return
    for name, matrix in matrices(written, scheme).items():
        scale = float(matrix.vector("input_scale")[0])
        hook = partial(_rounded, partial(rounders[scheme.name], scale=scale))
        network.get_submodule(name.removesuffix(".weight")).register_forward_pre_hook(hook)


def _rounded(
    rounder: Callable[[torch.Tensor], torch.Tensor], _: torch.nn.Module, inputs: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, ...]:
    return (rounder(inputs[0]), *inputs[1:])


def _round_e4m3(x: torch.Tensor, scale: float) -> torch.Tensor:
    import torch

    return (x / scale).clamp(-_E4M3_MAX, _E4M3_MAX).to(torch.float8_e4m3fn).to(x.dtype) * scale


def _round_e2m1(x: torch.Tensor, scale: float) -> torch.Tensor:
    import torch

    blocks = x.reshape(-1, _BLOCK)
    wanted = blocks.abs().amax(-1, keepdim=True) / _E2M1_MAX / scale
    steps = wanted.clamp(max=_E4M3_MAX).to(torch.float8_e4m3fn).to(x.dtype) * scale
    steps = torch.where(steps > 0, steps, torch.ones_like(steps))
    grid = torch.tensor(_E2M1[:8], dtype=x.dtype)
    places = torch.bucketize((blocks / steps).abs().clamp(max=_E2M1_MAX), torch.tensor(_E2M1_HALFWAY, dtype=x.dtype))
    return (grid[places] * blocks.sign() * steps).reshape(x.shape)


def _plain(tensor: Tensor) -> Pieces:
    for first, last in row_ranges(tensor):
        yield first, _floats(tensor, first, last)


def _floats(tensor: Tensor, first: int, last: int) -> Rows:
    return to_float32(read_rows(tensor, first, last), tensor.dtype)


@cache
def _e4m3() -> Rows:
    """The values of the 256 codes of E4M3 (OCP 8-bit floating point, section 5.2); NaN for the two that are none."""
    codes = np.arange(256)
    exponent, mantissa = (codes >> 3) & 15, codes & 7
    normal = np.ldexp(1 + mantissa / 8, exponent - 7)
    values = np.where(exponent == 0, np.ldexp(mantissa / 8, -6), normal)
    values = np.where((codes & 127) == 127, np.nan, values)
    return np.where(codes & 128, -values, values).astype(np.float32)
