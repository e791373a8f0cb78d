"""Stream a model's weights into one or more GGUF files at once: every piece is read once and encoded once a type."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from citrate.core.sink import SinkFile
from citrate.formats.configuration import Config
from citrate.formats.conversion import Request
from citrate.formats.dtypes import Raw
from citrate.formats.encoding import Encoded, encode
from citrate.formats.families.family import Layout, Slot
from citrate.formats.gguf_file import GgufTensor, GgufValue, header_bytes, padded, plan
from citrate.formats.layout import convertible_tensors
from citrate.formats.measure import BlockErrors, TensorErrors
from citrate.formats.mixtures import Mixture, tensor_type
from citrate.formats.safetensors_file import Tensor
from citrate.formats.source import SourceModel
from citrate.formats.streaming import buffer, in_order, read_rows, row_ranges

ROPE_FACTORS = "rope_freqs.weight"


@dataclass(frozen=True)
class File:
    """One file that is going to be written, and what was measured while it was."""

    request: Request
    mixture: Mixture
    metadata: Mapping[str, GgufValue]
    errors: TensorErrors = field(default_factory=TensorErrors)


@dataclass(frozen=True)
class _Job:
    """A tensor on its way: where it comes from, and what it becomes in each file."""

    source: Tensor | None
    """None for a constant, which stands in ``constant``."""
    slot: Slot
    constant: NDArray[np.float32]
    targets: Sequence[GgufTensor]


def write(model: SourceModel, layout: Layout, files: Sequence[File]) -> None:
    """Write every file; raises as ``citrate.formats.convert`` does."""
    factors = np.array(layout.rope_factors(model.config), np.float32)
    jobs = _jobs(model, layout, [file.mixture for file in files], factors)
    sinks = [_opened(file, [job.targets[i] for job in jobs]) for i, file in enumerate(files)]
    done = 0
    with closing(in_order(_pieces(jobs, model), files[0].request.threads)) as pieces:
        for job in jobs:
            errors: dict[str, list[BlockErrors]] = {}
            for _ in _ranges(job, model):
                encoded = next(pieces)
                _write_piece(job, encoded, sinks, errors)
                done += next(iter(encoded.values())).source_bytes
                for file in files:
                    file.request.report(done)
            _finish_tensor(job, files, sinks, errors)
    for sink in sinks:
        sink.close()


def _opened(file: File, targets: Sequence[GgufTensor]) -> SinkFile:
    header = header_bytes(file.metadata, targets)
    data_bytes = sum(padded(target.size_bytes) for target in targets)
    request = file.request
    sink = request.sink.open(f"{request.name}-{request.variant.quantization}.gguf", len(header) + data_bytes)
    sink.write(header)
    return sink


def _write_piece(
    job: _Job, encoded: Mapping[str, Encoded], sinks: Sequence[SinkFile], errors: dict[str, list[BlockErrors]]
) -> None:
    for target, sink in zip(job.targets, sinks, strict=True):
        sink.write(buffer(encoded[target.type_name].data))
    for type_name, piece in encoded.items():
        if piece.errors:
            errors.setdefault(type_name, []).append(piece.errors)


def _finish_tensor(
    job: _Job, files: Sequence[File], sinks: Sequence[SinkFile], errors: Mapping[str, Sequence[BlockErrors]]
) -> None:
    for target, file, sink in zip(job.targets, files, sinks, strict=True):
        sink.write(bytes(padded(target.size_bytes) - target.size_bytes))
        file.errors.judge(target.name, target.type_name, errors.get(target.type_name, ()))


def _jobs(model: SourceModel, layout: Layout, mixtures: Sequence[Mixture], factors: NDArray[np.float32]) -> list[_Job]:
    """What becomes of every tensor, in the order of llama.cpp's quantizer, however it is sharded."""
    slots = layout.slots(model.config)
    sources: dict[str, tuple[Tensor | None, Slot]] = {
        slots[tensor.name].gguf_name: (tensor, slots[tensor.name]) for tensor in convertible_tensors(model)
    }
    if factors.size:
        sources[ROPE_FACTORS] = (None, Slot(factors.shape, ROPE_FACTORS))
    names = sorted(sources, key=_writing_order)
    shapes = {name: _shape(sources[name][1]) for name in names}
    planned = [plan([_planned(mixture, model.config, *item) for item in shapes.items()]) for mixture in mixtures]
    return [_Job(*sources[name], factors, targets) for name, *targets in zip(names, *planned, strict=True)]


def _planned(mixture: Mixture, config: Config, name: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...], str]:
    """Name, shape in ggml's order and type; llama.cpp's quantizer drops a single row's dimension, its converter not."""
    single = mixture.quantized and len(shape) > 1 and shape[0] == 1
    return name, (shape[1:] if single else shape)[::-1], tensor_type(mixture, config, name, shape)


def _shape(slot: Slot) -> tuple[int, ...]:
    return (slot.shape[0] - slot.rows_cut, *slot.shape[1:])


def _writing_order(name: str) -> tuple[int, str]:
    """What belongs to no layer first, then layer by layer, each by name."""
    layer = name.split(".")[1] if name.startswith("blk.") else ""
    return int(layer) if layer else -1, name


def _pieces(jobs: Sequence[_Job], model: SourceModel) -> Iterator[Callable[[], dict[str, Encoded]]]:
    for job in jobs:
        for first, last in _ranges(job, model):
            yield partial(_encode, job, first, last)


def _ranges(job: _Job, model: SourceModel) -> Iterator[tuple[int, int]]:
    """Pieces of whole rows; of whole heads where rows change places."""
    if job.source is None:
        return iter([(0, 1)])
    return row_ranges(job.source, model.config.head_dim if job.slot.heads else 1, job.slot.rows_cut)


def _encode(job: _Job, first: int, last: int) -> dict[str, Encoded]:
    """The piece in every type that a file wants it in."""
    types = dict.fromkeys(target.type_name for target in job.targets)
    source = job.source
    if source is None:
        return dict.fromkeys(types, Encoded(job.constant.view(np.uint8), None, 0))
    values = read_rows(source, first, last)
    if job.slot.heads:
        values = _permuted(values, last - first, source.shape[0] // job.slot.heads)
    return {type_name: encode(values, source, type_name) for type_name in types}


def _permuted(values: Raw, rows: int, head_dim: int) -> Raw:
    """Interleave the two halves of each head's rows: transformers rotates halves, llama.cpp neighbours."""
    heads = values.reshape(rows // head_dim, 2, head_dim // 2, -1)
    return np.ascontiguousarray(heads.swapaxes(1, 2)).reshape(-1)
