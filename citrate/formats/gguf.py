"""GGUF: one bare file for llama.cpp, written from SafeTensors in one pass, weights in llama.cpp's own encodings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from citrate.core.errors import UnsupportedConversionError
from citrate.core.sink import SinkFile
from citrate.formats.checks import llama
from citrate.formats.checks.reference import Logits, positions
from citrate.formats.conversion import Conversion, Request, converter_version
from citrate.formats.dtypes import Raw
from citrate.formats.encoding import Encoded, encode
from citrate.formats.families.family import Family
from citrate.formats.gguf_file import GgufTensor, GgufValue, Kind, header_bytes, padded, plan
from citrate.formats.layout import convertible_tensors, family_of, why_not
from citrate.formats.licence import find_licence
from citrate.formats.measure import BlockErrors, TensorErrors
from citrate.formats.mixtures import MIXTURES, Mixture, tensor_type
from citrate.formats.safetensors_file import Tensor
from citrate.formats.source import SourceModel
from citrate.formats.streaming import buffer, in_order, read_rows, row_ranges
from citrate.formats.vocabulary import Vocabulary, read_vocabulary

BARE = True
_DIVERGENCE = {"F16": "0.0001", "BF16": "0.001", "Q8_0": "0.01", "Q4_K_M": "0.2"}
_ROPE = "rope_freqs.weight"


@dataclass(frozen=True)
class _Job:
    """A tensor on its way: what it becomes, and where it comes from."""

    target: GgufTensor
    source: Tensor | None
    """None for a constant, which stands in ``constant``."""
    heads: int
    """How many heads' rows change places; 0 where none."""
    constant: NDArray[np.float32]


def quantizations(model: SourceModel) -> tuple[str, ...]:
    """The quantizations of ``model`` that citrate writes; empty where it cannot be converted."""
    return () if refusal(model) else tuple(MIXTURES)


def refusal(model: SourceModel) -> str:
    """Why ``model`` cannot become GGUF; empty where it can."""
    reason = why_not(model)
    if reason:
        return reason
    try:
        _vocabulary(model)
    except UnsupportedConversionError as error:
        return error.message
    return ""


def convert(request: Request) -> Conversion:
    """Write the file ``<name>-<quantization>.gguf``; raises as ``citrate.formats.convert`` does."""
    model, mixture = request.model, MIXTURES[request.variant.quantization]
    family = family_of(model)
    factors = np.array(family.rope_factors(model.config), np.float32)
    jobs = _plan(model, family, mixture, factors)
    header = header_bytes(_metadata(request, family, mixture), [job.target for job in jobs])
    data_bytes = sum(padded(job.target.size_bytes) for job in jobs)
    file = request.sink.open(f"{request.name}-{request.variant.quantization}.gguf", len(header) + data_bytes)
    file.write(header)
    checks = _write_tensors(request, jobs, file)
    file.close()
    return Conversion(
        variant=request.variant,
        checks=checks.checks(),
        converter="citrate.formats.gguf",
        version=converter_version(),
        arguments={"name": request.name},
        source_dtype=model.source_dtype,
        bare=BARE,
    )


def tokenize(path: Path, texts: tuple[str, ...], *, special: bool) -> list[list[int]]:
    """Token ids by llama.cpp."""
    return llama.tokenize(path, texts, special=special)


def logits(model: SourceModel, path: Path) -> Logits:
    """Logits by llama.cpp."""
    return llama.logits(path, positions(model), model.config.vocab_size)


def divergence_limit(quantization: str) -> str:
    """In nats."""
    return _DIVERGENCE[quantization]


def _plan(model: SourceModel, family: Family, mixture: Mixture, factors: NDArray[np.float32]) -> list[_Job]:
    """What becomes of every tensor, in the order of llama.cpp's quantizer, however it is sharded."""
    sources: dict[str, Tensor | None] = {family.gguf_name(tensor.name): tensor for tensor in convertible_tensors(model)}
    if factors.size:
        sources[_ROPE] = None
    names = sorted(sources, key=_writing_order)
    shapes = {name: source.shape if source else factors.shape for name, source in sources.items()}
    targets = plan(
        [(name, shapes[name][::-1], tensor_type(mixture, model.config, name, shapes[name])) for name in names]
    )
    return [_job(model, family, target, sources[target.name], factors) for target in targets]


def _job(
    model: SourceModel, family: Family, target: GgufTensor, source: Tensor | None, factors: NDArray[np.float32]
) -> _Job:
    if source is None:
        return _Job(target, None, 0, factors)
    return _Job(target, source, family.permuted_heads(model.config, source.name), factors)


def _writing_order(name: str) -> tuple[int, str]:
    """What belongs to no layer first, then layer by layer, each by name."""
    layer = name.split(".")[1] if name.startswith("blk.") else ""
    return int(layer) if layer else -1, name


@lru_cache(maxsize=2)
def _vocabulary(model: SourceModel) -> Vocabulary:
    """The model's tokenizer, parsed once: it is asked for before and while converting."""
    return read_vocabulary(model.root, model.config)


def _metadata(request: Request, family: Family, mixture: Mixture) -> Mapping[str, GgufValue]:
    model = request.model
    licence = find_licence(model.root)
    keys = {
        "general.architecture": GgufValue(Kind.STRING, family.gguf_architecture),
        "general.type": GgufValue(Kind.STRING, "model"),
        "general.name": GgufValue(Kind.STRING, request.name),
    }
    if licence:
        keys["general.license"] = GgufValue(Kind.STRING, licence.spdx)
    for key, value in family.gguf_metadata(model.config).items():
        kind = Kind.STRING if isinstance(value, str) else Kind.UINT32 if isinstance(value, int) else Kind.FLOAT32
        keys[f"{family.gguf_architecture}.{key}"] = GgufValue(kind, value)
    keys |= _vocabulary(model).metadata()
    keys["general.quantization_version"] = GgufValue(Kind.UINT32, 2)
    keys["general.file_type"] = GgufValue(Kind.UINT32, mixture.file_type)
    return keys


def _write_tensors(request: Request, jobs: Sequence[_Job], file: SinkFile) -> TensorErrors:
    """Write the data of every tensor and judge each when its last piece is out."""
    checks, done = TensorErrors(), 0
    with closing(in_order(_pieces(jobs, request.model), request.threads)) as pieces:
        for job in jobs:
            errors: list[BlockErrors] = []
            for _ in _ranges(job, request.model):
                encoded = next(pieces)
                file.write(buffer(encoded.data))
                if encoded.errors:
                    errors.append(encoded.errors)
                done += encoded.source_bytes
                request.report(done)
            file.write(bytes(padded(job.target.size_bytes) - job.target.size_bytes))
            checks.judge(job.target.name, job.target.type_name, errors)
    return checks


def _pieces(jobs: Sequence[_Job], model: SourceModel) -> Iterator[Callable[[], Encoded]]:
    for job in jobs:
        for first, last in _ranges(job, model):
            yield partial(_encode, job, first, last)


def _ranges(job: _Job, model: SourceModel) -> Iterator[tuple[int, int]]:
    """Pieces of whole rows; of whole heads where rows change places."""
    if job.source is None:
        return iter([(0, 1)])
    return row_ranges(job.source, model.config.head_dim if job.heads else 1)


def _encode(job: _Job, first: int, last: int) -> Encoded:
    if job.source is None:
        return Encoded(job.constant.view(np.uint8), None, 0)
    values = read_rows(job.source, first, last)
    if job.heads:
        values = _permuted(values, last - first, job.source.shape[0] // job.heads)
    return encode(values, job.source, job.target.type_name)


def _permuted(values: Raw, rows: int, head_dim: int) -> Raw:
    """Interleave the two halves of each head's rows: transformers rotates halves, llama.cpp neighbours."""
    heads = values.reshape(rows // head_dim, 2, head_dim // 2, -1)
    return np.ascontiguousarray(heads.swapaxes(1, 2)).reshape(-1)
