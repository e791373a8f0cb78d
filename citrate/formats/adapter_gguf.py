"""Adapters for llama.cpp: one GGUF file, as its own `convert_lora_to_gguf.py` writes it but for what names a machine.

The factors get the names of the base's tensors; where llama.cpp reorders a matrix' rows, B's are reordered as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from citrate.core.errors import FormatError, UnsupportedConversionError
from citrate.core.records import Format
from citrate.core.sink import Sink
from citrate.formats.adapter_updates import Factor, ReadBack, Update, Updates
from citrate.formats.dtypes import Raw, all_finite, to_float32
from citrate.formats.families.family import Slot
from citrate.formats.gguf_file import GgufHeader, GgufTensor, GgufValue, header_bytes, padded, plan, read_header, typed
from citrate.formats.layout import layout_of, why_not
from citrate.formats.licence import find_licence
from citrate.formats.mlx_affine import narrow
from citrate.formats.source import SourceModel

QUANTIZATIONS = ("F32", "F16", "BF16")
_EMBEDDING = "token_embd.weight"
_TYPES: Mapping[str, type[np.generic]] = {"F32": np.float32, "F16": np.uint16, "BF16": np.uint16}


@dataclass(frozen=True)
class _Part:
    """A tensor to write: its name in GGUF, and its values as they lie there."""

    name: str
    values: Raw
    shape: tuple[int, int]


def write_gguf(source: Updates, base: SourceModel, type_name: str, sink: Sink, name: str) -> None:
    """Write the file ``<name>-<type>.gguf``.

    Args:
        source: the adapter.
        base: the model that it is an update of; its configuration says how tensors are called and reordered.
        type_name: one of ``QUANTIZATIONS``.
        sink: takes the file.
        name: written into the file.

    Raises:
        UnsupportedConversionError: the base has no GGUF, or no such tensor there.
        FormatError: an update does not fit the base, or a weight is too large for the type.
    """
    alpha = source.leading.scale * source.leading.rank or 1.0
    slots = slots_of(source, base)
    parts = [part for update in source.updates for part in _parts(update, slots[update.module], alpha, type_name)]
    tensors = plan([(part.name, part.shape[::-1], type_name) for part in parts])
    metadata = {"general.architecture": typed(layout_of(base).gguf_architecture), "general.type": typed("adapter")}
    metadata |= {"adapter.type": typed("lora"), "general.name": typed(name)}
    licence = find_licence(source.root)
    if licence:
        metadata["general.license"] = typed(licence.spdx)
    metadata |= {"adapter.lora.alpha": typed(float(alpha)), "general.quantization_version": typed(2)}
    _write(sink, f"{name}-{type_name}.gguf", metadata, tensors, parts)


def slots_of(source: Updates, base: SourceModel) -> Mapping[str, Slot]:
    """What each updated module is in GGUF.

    Raises:
        UnsupportedConversionError: the base has no GGUF, or none of that tensor.
        FormatError: an update does not fit the base.
    """
    reason = why_not(base, Format.GGUF)
    if reason:
        raise UnsupportedConversionError(f"{base.config.class_name} has no adapters in GGUF: {reason}")
    known = layout_of(base).slots(base.config)
    found: dict[str, Slot] = {}
    for update in source.updates:
        slot = known.get(f"{update.module}.weight")
        if slot is None:
            raise UnsupportedConversionError(
                f"the adapter updates {update.module}, and {base.config.class_name} has no such tensor of its own",
                hint="name the base that it was trained on: --base DIR",
            )
        if slot.shape != (update.shape[::-1] if update.embedding else update.shape):
            raise FormatError(
                f"the update of {update.module} is {' x '.join(map(str, update.shape))}, "
                f"the base's tensor {' x '.join(map(str, slot.shape))}",
                hint="name the base that it was trained on: --base DIR",
            )
        found[update.module] = slot
    return found


def read_gguf(path: Path, source: Updates, base: SourceModel) -> Iterator[ReadBack]:
    """What a written file holds of each update of ``source``.

    Raises:
        FormatError: the file lacks a tensor.
    """
    header = read_header(path)
    tensors = {tensor.name: tensor for tensor in header.tensors}
    alpha, slots = _alpha(header), slots_of(source, base)
    for update in source.updates:
        slot = slots[update.module]
        a, b = (_values(path, tensors, f"{slot.gguf_name}.lora_{side}") for side in "ab")
        rows = _reordered(b, slot.heads, back=True) if slot.heads else b
        scaled = rows.astype(np.float32) * np.float32(alpha / update.rank)
        yield ReadBack(update, a.T if slot.gguf_name == _EMBEDDING else a, scaled)


def _parts(update: Update, slot: Slot, alpha: float, type_name: str) -> Iterator[_Part]:
    a, b = update.factors()
    b = b.times(update.scale * update.rank / alpha)
    first = a.values.T if slot.gguf_name == _EMBEDDING else a.values
    second = _reordered(b.values, slot.heads) if slot.heads else b.values
    for side, factor in (("a", Factor(first, a.dtype)), ("b", Factor(second, b.dtype))):
        rows, columns = factor.values.shape
        yield _Part(f"{slot.gguf_name}.lora_{side}", _as(factor, type_name, update), (rows, columns))


def _as(factor: Factor, type_name: str, update: Update) -> Raw:
    """Flat values in a type of GGUF."""
    if factor.dtype == type_name:
        return np.ascontiguousarray(factor.values).reshape(-1)
    values = narrow(factor.wide.reshape(-1), type_name)
    if not all_finite(values, type_name):
        raise FormatError(
            f"the update of {update.module} holds a weight too large for {type_name}", hint="use gguf:F32"
        )
    return values


def _reordered(values: Raw, heads: int, *, back: bool = False) -> Raw:
    """Rows in llama.cpp's order: it rotates neighbouring rows, transformers the two halves of a head."""
    rows, columns = values.shape
    halves = (rows // heads // 2, 2) if back else (2, rows // heads // 2)
    return values.reshape(heads, *halves, columns).swapaxes(1, 2).reshape(rows, columns)


def _write(
    sink: Sink,
    path: str,
    metadata: Mapping[str, GgufValue],
    tensors: tuple[GgufTensor, ...],
    parts: list[_Part],
) -> None:
    header = header_bytes(metadata, tensors)
    file = sink.open(path, len(header) + sum(padded(tensor.size_bytes) for tensor in tensors))
    file.write(header)
    for tensor, part in zip(tensors, parts, strict=True):
        data = part.values.tobytes()
        file.write(data + bytes(padded(tensor.size_bytes) - len(data)))
    file.close()


def _alpha(header: GgufHeader) -> float:
    entry = header.metadata.get("adapter.lora.alpha")
    if entry is None or not isinstance(entry.value, float):
        raise FormatError("the file says no adapter.lora.alpha")
    return entry.value


def _values(path: Path, tensors: Mapping[str, GgufTensor], name: str) -> NDArray[np.float32]:
    tensor = tensors.get(name)
    if tensor is None or tensor.type_name not in _TYPES:
        raise FormatError(f"{path.name} lacks the tensor {name}")
    with path.open("rb") as file:
        file.seek(tensor.offset)
        raw = np.frombuffer(file.read(tensor.size_bytes), _TYPES[tensor.type_name])
    return to_float32(raw, tensor.type_name).reshape(tensor.shape[::-1])
