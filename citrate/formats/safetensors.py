"""SafeTensors, cleaned: the weights byte for byte, without pickles, code, local paths or foreign metadata.

Works for every architecture, with nothing installed but numpy. Of a directory that MLX has quantised the decoded
weights are written, and the manifest says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from types import MappingProxyType

from citrate.core.canonical import Json
from citrate.core.records import Check, Format, Variant
from citrate.core.sink import Sink
from citrate.formats import same_weights
from citrate.formats.checks import metadata
from citrate.formats.checks.reference import Outputs, evaluated, pooling_of, positions, source_weights
from citrate.formats.configuration import canonical_config, strip_private
from citrate.formats.conversion import Conversion, Request, converter_version
from citrate.formats.documents import pretty
from citrate.formats.dtypes import Raw, width
from citrate.formats.families.family import Output
from citrate.formats.mlx_source import Packed, decoded, described, packed
from citrate.formats.safetensors_file import Planned, Tensor, header_bytes, read_header
from citrate.formats.same_tokenizer import deviation, tokenize  # noqa: F401 - this format's too
from citrate.formats.same_weights import Passed
from citrate.formats.sharding import sharded
from citrate.formats.source import SourceModel, open_model
from citrate.formats.streaming import PIECE_BYTES, buffer, in_order, read_bytes, row_ranges

BARE = False
TARGETS: Mapping[str, tuple[str, ...]] = {}
CHECKED_BY: Mapping[str, tuple[str, ...]] = {}
INDEX = "model.safetensors.index.json"
_PICKLED = re.compile(r"(^|/)pytorch_model(-\d+-of-\d+)?\.bin$")
_NUMBER = re.compile(r"-\d{5}-of-\d{5}(?=\.safetensors)")


def quantizations(model: SourceModel) -> tuple[str, ...]:  # noqa: ARG001 - the same for every model
    """The quantizations this format can write ``model`` in; safetensors has none of its own."""
    return ("",)


def refusal(model: SourceModel) -> str:  # noqa: ARG001 - never refused
    """Why ``model`` cannot be written in this format; empty where it can."""
    return ""


def convert(requests: Sequence[Request]) -> tuple[Conversion, ...]:
    """Write the cleaned directory.

    Raises:
        FormatError: a NaN or infinite weight, or a file that changed under us.
    """
    return tuple(_convert(request) for request in requests)


def _convert(request: Request) -> Conversion:
    model, done = request.model, 0
    whole, matrices, files = _planned(model)
    for name, tensors in files:
        for size in write_shard(request, name, tensors, matrices):
            done += size
            request.report(done * model.size_bytes // whole.size_bytes)
    for index, data in indexes(files):
        write_file(request.sink, index, data)
    config = pretty(strip_private(model.config.document)) if model.is_pipeline else canonical_config(whole.config)
    write_companions(model, request.sink, config)
    return Conversion(
        variant=Variant(Format.SAFETENSORS),
        checks=(),
        converter="citrate.formats.safetensors",
        version=converter_version(),
        arguments={"decoded": f"mlx {described(model)}"} if matrices else {},
        source_dtype=whole.source_dtype,
        bare=BARE,
    )


def _planned(
    model: SourceModel,
) -> tuple[SourceModel, Mapping[str, Packed], list[tuple[str, tuple[Tensor, ...]]]]:
    """The model that is written, its matrices that are decoded on the way, and the files with their tensors."""
    whole = decoded(model)
    matrices = {} if whole is model else packed(model)
    return whole, matrices, _files(model) if model.is_pipeline else sharded(whole.tensors)


def toolchain(quantization: str) -> Mapping[str, str]:  # noqa: ARG001 - the same for all
    """Empty: the bytes depend on nobody else's programs."""
    return {}


def faults(model: SourceModel, quantization: str, path: Path) -> list[str]:  # noqa: ARG001 - the same for all
    """What the directory lacks of its source, or says otherwise."""
    return metadata.of_folder(model, path)


def passed_on(model: SourceModel, variant: Variant, path: Path) -> tuple[Check, ...]:
    """Compare every tensor with the source's, or with what its matrices are decoded to."""
    _, matrices, files = _planned(model)
    return (same_weights.check(variant, _passed(path, files, matrices)),)


def _passed(
    path: Path, files: Sequence[tuple[str, tuple[Tensor, ...]]], matrices: Mapping[str, Packed]
) -> Iterator[Passed]:
    for name, tensors in files:
        written = {tensor.name: tensor for tensor in read_header(path / name)}
        for tensor in tensors:
            matrix = matrices.get(tensor.name)
            yield Passed(tensor, written.get(tensor.name), matrix.read if matrix else None)


def outputs(model: SourceModel, path: Path) -> Outputs:
    """Logits or vectors of the written directory, by transformers."""
    written = open_model(path)
    return evaluated(written.config, source_weights(written), positions(model), pooling_of(model))


def limit(quantization: str, output: Output) -> str:  # noqa: ARG001 - one for all
    """What the order of float32 sums may cost, since the weights are the source's own."""
    return "0.000001"


def write_companions(model: SourceModel, sink: Sink, config: bytes) -> None:
    """Write the configuration and the files that go beside the weights."""
    write_file(sink, model.config_name, config)
    for companion in model.companions:
        write_file(sink, companion.name, companion.read())


def write_shard(
    request: Request, name: str, tensors: Sequence[Tensor], matrices: Mapping[str, Packed] = MappingProxyType({})
) -> Iterator[int]:
    """Write a file of tensors as they are, but for ``matrices``, which are decoded; yields the bytes of each piece."""
    header = header_bytes([Planned(t.name, t.dtype, t.shape) for t in tensors], {"format": "pt"})
    file = request.sink.open(name, len(header) + sum(tensor.size_bytes for tensor in tensors))
    file.write(header)
    with closing(in_order(_pieces(tensors, matrices), request.threads)) as pieces:
        for values in pieces:
            file.write(buffer(values))
            yield values.nbytes
    file.close()


def _pieces(tensors: Sequence[Tensor], matrices: Mapping[str, Packed]) -> Iterator[Callable[[], Raw]]:
    for tensor in tensors:
        if tensor.name in matrices:
            for first, last in row_ranges(tensor):
                yield partial(matrices[tensor.name].read, first, last)
            continue
        step = PIECE_BYTES - PIECE_BYTES % width(tensor.dtype)
        for start in range(0, tensor.size_bytes, step):
            yield partial(read_bytes, tensor, start, min(step, tensor.size_bytes - start))


def _files(model: SourceModel) -> list[tuple[str, tuple[Tensor, ...]]]:
    """The files of a pipeline, each with its tensors: as it is cut, under the usual names."""
    shards: dict[str, list[Tensor]] = {shard: [] for shard in model.shards}
    for tensor in model.tensors:
        shards[model.shard_of(tensor)].append(tensor)
    return list(zip(_plain_names(model), map(tuple, shards.values()), strict=True))


def _plain_names(model: SourceModel) -> list[str]:
    """A pipeline's weight files keep their names, but for the mark of half precision, which the loader must be told,
    and for what pickled ones are called."""
    plain = [name.replace(".fp16.safetensors", ".safetensors") for name in model.shards]
    return [_PICKLED.sub(r"\1model\2.safetensors", name).replace(".bin", ".safetensors") for name in plain]


def indexes(files: Sequence[tuple[str, tuple[Tensor, ...]]]) -> Iterator[tuple[str, bytes]]:
    """The index of every folder that has more than one shard."""
    folders: dict[str, list[tuple[str, tuple[Tensor, ...]]]] = {}
    for path, tensors in files:
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, []).append((name, tensors))
    for folder, shards in folders.items():
        if len(shards) > 1:
            stem = _NUMBER.sub("", shards[0][0])
            size = sum(tensor.size_bytes for _, tensors in shards for tensor in tensors)
            weight_map: dict[str, Json] = {tensor.name: name for name, tensors in shards for tensor in tensors}
            path = f"{folder}/{stem}.index.json".removeprefix("/")
            yield path, pretty({"metadata": {"total_size": size}, "weight_map": weight_map})


def write_file(sink: Sink, path: str, data: bytes) -> None:
    file = sink.open(path, len(data))
    file.write(data)
    file.close()
