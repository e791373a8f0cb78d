"""Structure and error of a checkpoint, tensor by tensor, against the source that it was made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial

import numpy as np
from numpy.typing import NDArray

from citrate.core.errors import FormatError
from citrate.core.records import Check, Variant
from citrate.formats.dtypes import to_float32
from citrate.formats.layout import layout_of
from citrate.formats.measure import BlockErrors, TensorErrors, compare
from citrate.formats.safetensors_file import Tensor
from citrate.formats.source import SourceModel
from citrate.formats.streaming import in_order, read_rows, row_ranges
from citrate.formats.tensorrt.decoding import Matrix, matrices
from citrate.formats.tensorrt.schemes import Scheme

PROJECTION = "_proj.weight"
"""How the names of the linear layers of a block end, in every family that is quantised."""
_BEFORE: Mapping[str, str] = {
    # which norm's outputs a layer takes, so that its columns' scale may stand there
    **dict.fromkeys(("q_proj", "k_proj", "v_proj"), "input_layernorm"),
    **dict.fromkeys(("gate_proj", "up_proj"), "post_attention_layernorm"),
}
_FLOATS = ("BF16", "F16", "F32")


def judge(variant: Variant, model: SourceModel, written: SourceModel, scheme: Scheme) -> tuple[Check, ...]:
    """Check that a checkpoint has every tensor in its place, and how far its matrices are from the source's.

    Raises:
        FormatError: a tensor is missing, unexpected or of another shape or type, a scale is not positive, or a matrix
            is too far from its source; the message names it.
    """
    faults = [*_faults(model, written, scheme)]
    if faults:
        raise FormatError(
            f"check 'structure' failed for {variant}: {len(faults)} faults, limit 0; the first: {faults[0]}",
            hint="this is a fault of the converter: please report it",
        )
    errors = TensorErrors()
    sources = {tensor.name: tensor for tensor in model.tensors}
    for name, matrix in matrices(written, scheme).items():
        folded = _folded(name, model, written) if scheme.name == "w4a16_awq" else None
        jobs = (
            partial(_compare, sources[name], matrix, folded, first, last)
            for first, last in row_ranges(matrix.parts["weight"])
        )
        with closing(in_order(jobs, None)) as pieces:
            errors.judge(name, scheme.name, list(pieces))
    return Check("structure", True, "0", "0"), *errors.checks()


def _compare(source: Tensor, matrix: Matrix, folded: NDArray[np.float32] | None, first: int, last: int) -> BlockErrors:
    decoded = matrix.rows(first, last)
    packed = len(decoded) // (last - first)
    if folded is not None and "pre_quant_scale" not in matrix.parts:
        decoded = decoded * folded
    wanted = to_float32(read_rows(source, first * packed, last * packed), source.dtype)
    return compare(wanted, np.ascontiguousarray(decoded).reshape(-1))


def _folded(name: str, model: SourceModel, written: SourceModel) -> NDArray[np.float32] | None:
    """By what the norm before a layer was multiplied, column by column; None where none can be."""
    layer, _, part = name.removesuffix(".weight").rpartition(".")
    norm = _BEFORE.get(part)
    if norm is None:
        return None
    place = f"{layer.rpartition('.')[0]}.{norm}.weight"
    before, after = (to_float32(read_rows(t, 0, 1), t.dtype) for t in (model.tensor(place), written.tensor(place)))
    ratio = np.divide(after, before, out=np.ones_like(before), where=before != 0)
    return ratio if not np.array_equal(before, after) else None


def _faults(model: SourceModel, written: SourceModel, scheme: Scheme) -> Iterator[str]:
    wanted, found = _expected(model, scheme), {tensor.name: tensor for tensor in written.tensors}
    optional = {name for name in wanted if name.endswith(".pre_quant_scale")}
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            if name not in optional:
                yield f"tensor {name} is missing"
        elif name not in wanted:
            yield f"tensor {name} belongs to no such checkpoint"
        else:
            shape, dtypes = wanted[name]
            tensor = found[name]
            if tensor.shape != shape or tensor.dtype not in dtypes:
                yield f"tensor {name} is {tensor.dtype} {list(tensor.shape)}, not {dtypes[0]} {list(shape)}"
            elif name.endswith(("scale", "scale_2")) and not _is_positive(tensor):
                yield f"tensor {name} is not positive"


def _expected(model: SourceModel, scheme: Scheme) -> dict[str, tuple[tuple[int, ...], tuple[str, ...]]]:
    """Every tensor of a checkpoint: its shape, and the types that it may have."""
    expected: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {}
    for name, slot in layout_of(model).slots(model.config).items():
        if not name.endswith(PROJECTION):
            expected[name] = slot.shape, _FLOATS
            continue
        layer, (rows, columns) = name.removesuffix("weight"), slot.shape
        if scheme.name == "fp8":
            expected[name] = (rows, columns), ("F8_E4M3",)
            expected[f"{layer}weight_scale"] = expected[f"{layer}input_scale"] = (), ("F32",)
        elif scheme.name == "nvfp4":
            expected[name] = (rows, columns // 2), ("U8",)
            expected[f"{layer}weight_scale"] = (rows, columns // scheme.group), ("F8_E4M3",)
            expected[f"{layer}weight_scale_2"] = expected[f"{layer}input_scale"] = (), ("F32",)
        else:
            expected[name] = (rows // 2, columns), ("U8",)
            expected[f"{layer}weight_scale"] = (rows, columns // scheme.group), _FLOATS
            expected[f"{layer}pre_quant_scale"] = (columns,), _FLOATS
    return expected


def _is_positive(tensor: Tensor) -> bool:
    """Whether every scale is; an E4M3 scale may be zero, where all of its weights are."""
    pieces = (read_rows(tensor, first, last) for first, last in row_ranges(tensor))
    if tensor.dtype == "F8_E4M3":
        return all(int(piece.max()) < 0x7F for piece in pieces)  # the sign is the highest bit, NaN the value below
    return all(float(to_float32(piece, tensor.dtype).min()) > 0 for piece in pieces)
