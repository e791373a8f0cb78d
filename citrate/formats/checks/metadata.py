"""The gate on what stands beside the weights: everything a loader asks for is there, and says what the source says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from citrate.core.errors import FormatError
from citrate.core.records import Check, Variant
from citrate.formats.configuration import Config, canonical_document
from citrate.formats.gguf_file import GgufHeader, GgufValue, Kind
from citrate.formats.mlx_source import decoded
from citrate.formats.source import SourceModel, open_model

_FREE = "general.name"  # whoever publishes chooses it


def check(variant: Variant, faults: Sequence[str]) -> Check:
    """Judge what ``of_folder`` or ``of_gguf`` found.

    Raises:
        FormatError: something is missing or says something else; the message names the first.
    """
    if faults:
        raise FormatError(
            f"check 'metadata' failed for {variant}: {len(faults)} faults, limit 0; the first: {faults[0]:.160}",
            hint="this is a fault of the converter: please report it",
        )
    return Check("metadata", True, "0", "0")


def of_folder(model: SourceModel, path: Path, added: Sequence[str] = ()) -> list[str]:
    """What a written directory lacks of its source, or says otherwise, each in a few words.

    Args:
        model: the source.
        path: the written directory.
        added: keys of config.json that the format adds, such as its quantization.
    """
    written = open_model(path)
    faults = list(_companion_faults(model, written))
    if not model.is_pipeline:
        faults += _config_faults(decoded(model).config, written.config, added)
    return faults


def of_gguf(header: GgufHeader, metadata: Mapping[str, GgufValue], tensors: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What a GGUF file lacks or says otherwise.

    Args:
        header: of the written file.
        metadata: the keys that its family asks for, with the source's values.
        tensors: the tensors that its family asks for, with their shapes in ggml's order.
    """
    return [*_key_faults(header.metadata, metadata), *_tensor_faults(header, tensors)]


def _companion_faults(model: SourceModel, written: SourceModel) -> Iterator[str]:
    found = {companion.name: companion for companion in written.companions}
    for companion in model.companions:
        if companion.name not in found:
            yield f"{companion.name} is missing"
        elif found[companion.name].read() != companion.read():
            yield f"{companion.name} is not the source's"


def _config_faults(source: Config, written: Config, added: Sequence[str]) -> Iterator[str]:
    wanted, found = canonical_document(source), written.document
    for key in sorted((wanted.keys() | found.keys()) - set(added)):
        if wanted.get(key) != found.get(key):
            yield f"config.json: {key} is {_shown(found.get(key))}, the source says {_shown(wanted.get(key))}"


def _key_faults(found: Mapping[str, GgufValue], wanted: Mapping[str, GgufValue]) -> Iterator[str]:
    name = found.get(_FREE)
    if name is None or not name.value:
        yield f"{_FREE} is missing"
    for key, value in wanted.items():
        if key == _FREE:
            continue
        if key not in found:
            yield f"{key} is missing"
        elif _as_stored(found[key]) != _as_stored(value):
            yield f"{key} is {_shown(found[key].value)}, the source says {_shown(value.value)}"


def _as_stored(value: GgufValue) -> object:
    """A value with its numbers as wide as the file has them."""
    if Kind.FLOAT32 not in (value.kind, value.items):
        return value
    return value.kind, np.array(value.value, np.float32).tolist()


def _tensor_faults(header: GgufHeader, wanted: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    found = {tensor.name: tensor.shape for tensor in header.tensors}
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            yield f"tensor {name} is missing"
        elif name not in wanted:
            yield f"tensor {name} belongs to no model of this family"
        elif _without_ones(found[name]) != _without_ones(wanted[name]):
            yield f"tensor {name} has shape {list(found[name])}, the source says {list(wanted[name])}"


def _without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    """A single row's dimension comes and goes in llama.cpp's own files."""
    return tuple(size for size in shape if size != 1)


def _shown(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"{len(value)} items"
    return f"{value!r:.40}"
