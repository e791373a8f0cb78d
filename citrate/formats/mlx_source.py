"""Read an MLX model directory, quantised or not, as the model that it stands for. Nothing of MLX is needed.

mlx-lm keeps Hugging Face's names and layout; a quantised matrix ``x.weight`` is three arrays, codes (uint32),
``x.scales`` and ``x.biases``, and config.json says under ``quantization`` how they were made, for all or by module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from citrate.core.canonical import Json
from citrate.core.errors import FormatError, UnsupportedConversionError
from citrate.formats.configuration import Config
from citrate.formats.dtypes import CONVERTIBLE, Raw, all_finite, width
from citrate.formats.mlx_affine import Affine, decode
from citrate.formats.safetensors_file import Tensor, read_metadata
from citrate.formats.source import SourceModel
from citrate.formats.streaming import read_rows

_SETTINGS = ("quantization", "quantization_config")
_BITS = (2, 3, 4, 5, 6, 8)
_GROUPS = (32, 64, 128)


@dataclass(frozen=True)
class Packed:
    """A quantised matrix, or a stack of them: where its three arrays lie, and what they stand for."""

    affine: Affine
    codes: Tensor
    scales: Tensor
    biases: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns of the matrix; before them how many lie in a stack."""
        return *self.codes.shape[:-1], self.scales.shape[-1] * self.affine.group

    def read(self, first: int, last: int) -> Raw:
        """Rows ``first`` to ``last`` of the matrix, decoded, flat, in the type of the scales.

        Raises:
            FormatError: the file became shorter, or a weight is NaN or infinite.
        """
        codes, scales, biases = (read_rows(tensor, first, last) for tensor in (self.codes, self.scales, self.biases))
        values = decode(codes, scales, biases, self.scales.dtype, self.affine)
        if not all_finite(values, self.scales.dtype):
            raise FormatError(f"tensor {self.codes.name!r} decodes to infinite weights", hint="download it again")
        return values


def is_mlx(model: SourceModel) -> bool:
    """Whether a directory was written for MLX, quantised or not."""
    if is_quantized(model):
        return True
    first = model.tensors[0].path if model.tensors else None
    return first is not None and first.suffix == ".safetensors" and read_metadata(first).get("format") == "mlx"


def is_quantized(model: SourceModel) -> bool:
    """Whether a directory holds matrices in MLX's packed form."""
    settings = model.config.document.get("quantization")
    return isinstance(settings, dict) and any(tensor.name.endswith(".scales") for tensor in model.tensors)


def packed(model: SourceModel) -> Mapping[str, Packed]:
    """The quantised matrices of a directory, by the name of their weight.

    Raises:
        FormatError: one is incomplete, or is not what config.json says.
        UnsupportedConversionError: another quantization than the affine one.
    """
    tensors = {tensor.name: tensor for tensor in model.tensors}
    found: dict[str, Packed] = {}
    for name in tensors:
        if name.endswith(".scales"):
            base = name.removesuffix(".scales")
            found[f"{base}.weight"] = _packed(base, tensors, model.config)
    return found


def described(model: SourceModel) -> str:
    """How a directory is quantised, such as ``affine, 4 bits in groups of 64``; empty where it is not."""
    if not is_quantized(model):
        return ""
    kinds = sorted({(matrix.affine.bits, matrix.affine.group) for matrix in packed(model).values()})
    return "affine, " + " and ".join(f"{bits} bits in groups of {group}" for bits, group in kinds)


def decoded(model: SourceModel) -> SourceModel:
    """The model that a quantised directory stands for: every matrix by its own shape, and a configuration without the
    quantization. Its matrices cannot be read as they lie there: ``packed`` reads them. Any other model is itself.

    Raises:
        FormatError: a matrix is not what config.json says.
    """
    if not is_quantized(model):
        return model
    matrices = packed(model)
    arrays = {tensor.name for matrix in matrices.values() for tensor in (matrix.scales, matrix.biases)}
    tensors = tuple(_whole(t, matrices.get(t.name)) for t in model.tensors if t.name not in arrays)
    document = {key: value for key, value in model.config.document.items() if key not in _SETTINGS}
    architecture = replace(model.architecture, parameters=sum(tensor.elements for tensor in tensors))
    return replace(model, config=replace(model.config, document=document), tensors=tensors, architecture=architecture)


def _whole(tensor: Tensor, matrix: Packed | None) -> Tensor:
    if matrix is None:
        return tensor
    dtype = matrix.scales.dtype
    return replace(tensor, dtype=dtype, shape=matrix.shape, size_bytes=prod(matrix.shape) * width(dtype))


def _packed(base: str, tensors: Mapping[str, Tensor], config: Config) -> Packed:
    affine = _affine(base, config.document.get("quantization"))
    parts = [tensors.get(f"{base}.{part}") for part in ("weight", "scales", "biases")]
    codes, scales, biases = parts
    if codes is None or scales is None or biases is None:
        raise FormatError(f"{base}: a quantised matrix is weight, scales and biases, and one is missing")
    if len(codes.shape) < 2 or len(scales.shape) < 2 or codes.dtype != "U32" or scales.dtype not in CONVERTIBLE:
        raise FormatError(f"{base}: its arrays are none of an affine quantization", hint="dequantise it with mlx-lm")
    columns = scales.shape[-1] * affine.group
    fits = codes.shape[:-1] == scales.shape[:-1] and codes.shape[-1] * 32 == columns * affine.bits
    if not fits or (biases.dtype, biases.shape) != (scales.dtype, scales.shape):
        raise FormatError(
            f"{base}: codes {list(codes.shape)} and scales {list(scales.shape)} are not of {affine.bits} bits in "
            f"groups of {affine.group}",
            hint="config.json and the weights do not belong together",
        )
    return Packed(affine, codes, scales, biases)


def _affine(base: str, settings: Json) -> Affine:
    """How the matrix of the module ``base`` was quantised."""
    whole = settings if isinstance(settings, dict) else {}
    own = whole.get(base)
    # mlx-lm's mixed recipes leave null where a module has what all have
    named = whole | ({key: value for key, value in own.items() if value is not None} if isinstance(own, dict) else {})
    bits, group, mode = named.get("bits"), named.get("group_size"), named.get("mode", "affine")
    if mode != "affine":
        raise UnsupportedConversionError(
            f"{base} is quantised as {mode!r:.40}, and citrate decodes MLX's affine quantization",
            hint="dequantise it with mlx_lm.convert --dequantize",
        )
    if not isinstance(bits, int) or not isinstance(group, int) or bits not in _BITS or group not in _GROUPS:
        raise FormatError(f"config.json: quantization: {bits!r:.40} bits in groups of {group!r:.40} are not credible")
    return Affine(bits, group)
