"""MLX: a directory of 4-bit affine weights for Apple's runtime, with the arrays that ``mlx_lm.convert`` writes.

Written without MLX, which need not be installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from citrate.core.canonical import Json
from citrate.core.errors import BackendMissingError
from citrate.core.records import Format
from citrate.core.sink import SinkFile
from citrate.formats.checks import tokens
from citrate.formats.checks.reference import Outputs, Rows, evaluated, positions
from citrate.formats.configuration import canonical_config
from citrate.formats.conversion import Conversion, Request, converter_version
from citrate.formats.documents import parse_object, pretty
from citrate.formats.dtypes import Raw, to_bfloat16, to_float32
from citrate.formats.families.family import Output
from citrate.formats.layout import convertible_tensors, why_not
from citrate.formats.measure import BlockErrors, TensorErrors, compare
from citrate.formats.safetensors import INDEX, shard_names, write_companions, write_file
from citrate.formats.safetensors_file import Planned, Tensor, header_bytes
from citrate.formats.source import SourceModel, open_model
from citrate.formats.streaming import buffer, in_order, read_rows, row_ranges
from citrate.formats.vocabulary_tokens import Deviation

if TYPE_CHECKING:
    import mlx.core as mx

BARE = False
GROUP, BITS = 64, 4
_SHARD_BYTES = 5 << 30
QUANTIZATIONS = ("4bit",)


@dataclass(frozen=True)
class _Piece:
    """Rows of a tensor, encoded; ``scales`` and ``biases`` are empty where the rows are passed on as they are."""

    weights: Raw
    scales: Raw
    biases: Raw
    errors: BlockErrors | None


def quantizations(model: SourceModel) -> tuple[str, ...]:
    """The quantizations of ``model`` that citrate writes; empty where it cannot be converted."""
    return () if refusal(model) else QUANTIZATIONS


def refusal(model: SourceModel) -> str:
    """Why ``model`` cannot become MLX; empty where it can."""
    return why_not(model, Format.MLX)


def convert(requests: Sequence[Request]) -> tuple[Conversion, ...]:
    """Write the directory; raises as ``citrate.formats.convert`` does."""
    return tuple(_convert(request) for request in requests)


def _convert(request: Request) -> Conversion:
    model = request.model
    shards = _shards(convertible_tensors(model))
    names = shard_names(len(shards))
    checks, done = TensorErrors(), 0
    weight_map: dict[str, Json] = {}
    for name, tensors in zip(names, shards, strict=True):
        done = _write_shard(request, name, tensors, checks, done)
        weight_map |= {entry.name: name for tensor in tensors for entry in _planned(tensor)}
    total = sum(entry.size_bytes for tensors in shards for tensor in tensors for entry in _planned(tensor))
    metadata: dict[str, Json] = {"total_size": total, "total_parameters": model.architecture.parameters}
    write_file(request.sink, INDEX, pretty({"metadata": metadata, "weight_map": weight_map}))
    write_companions(model, request.sink, _config(model))
    return Conversion(
        variant=request.variant,
        checks=checks.checks(),
        converter="citrate.formats.mlx",
        version=converter_version(),
        arguments={"bits": str(BITS), "group_size": str(GROUP), "mode": "affine"},
        source_dtype=model.source_dtype,
        bare=BARE,
    )


def tokenize(path: Path, texts: tuple[str, ...]) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids by the artifact's tokenizer.json."""
    return tokens.tokenize(path, texts, special=False), tokens.tokenize(path, texts, special=True)


def deviation(model: SourceModel) -> Deviation | None:  # noqa: ARG001 - the tokenizer is the source's own file
    """None: the tokenizer is passed on as it is."""
    return None


def outputs(model: SourceModel, path: Path) -> Outputs:
    """Logits of the weights as MLX itself decodes them, by transformers: quantised MLX is too slow without a GPU."""
    written = open_model(path)
    return evaluated(written.config, _decoded_rows(written), positions(model))


def limit(quantization: str, output: Output) -> str:  # noqa: ARG001 - there is one
    """In nats."""
    return "0.2"


def is_quantized(tensor: Tensor) -> bool:
    """Whether a tensor is encoded: matrices (embeddings too) whose rows divide into groups, as mlx-lm chooses."""
    return len(tensor.shape) == 2 and tensor.shape[1] % GROUP == 0


def _planned(tensor: Tensor) -> list[Planned]:
    """What becomes of a tensor: itself, or codes, scales and biases."""
    if not is_quantized(tensor):
        return [Planned(tensor.name, tensor.dtype, tensor.shape)]
    rows, columns = tensor.shape
    base = tensor.name.removesuffix("weight")
    return [
        Planned(tensor.name, "U32", (rows, columns * BITS // 32)),
        Planned(base + "scales", tensor.dtype, (rows, columns // GROUP)),
        Planned(base + "biases", tensor.dtype, (rows, columns // GROUP)),
    ]


def _shards(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Tensors in order of their names, cut into files of at most 5 GiB, as mlx-lm cuts them.

    What would leave an odd offset behind comes last, so that every uint32 array is aligned for a memory map.
    """
    shards: list[list[Tensor]] = [[]]
    size = 0
    for tensor in sorted(tensors, key=lambda t: (any(p.size_bytes % 4 for p in _planned(t)), t.name)):
        needed = sum(entry.size_bytes for entry in _planned(tensor))
        if shards[-1] and size + needed > _SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += needed
    return shards


def _write_shard(request: Request, name: str, tensors: Sequence[Tensor], checks: TensorErrors, done: int) -> int:
    planned = [entry for tensor in tensors for entry in _planned(tensor)]
    header = header_bytes(planned, {"format": "mlx"})
    file = request.sink.open(name, len(header) + sum(entry.size_bytes for entry in planned))
    file.write(header)
    with closing(in_order(_pieces(tensors), request.threads)) as pieces:
        for tensor in tensors:
            _write_tensor(tensor, pieces, file, checks)
            done += tensor.size_bytes
            request.report(done)
    file.close()
    return done


def _write_tensor(tensor: Tensor, pieces: Iterator[_Piece], file: SinkFile, checks: TensorErrors) -> None:
    """Codes as they come; scales and biases, an eighth of them, when the last code is out."""
    scales: list[Raw] = []
    biases: list[Raw] = []
    errors: list[BlockErrors] = []
    for _ in row_ranges(tensor):
        piece = next(pieces)
        file.write(buffer(piece.weights))
        if piece.errors:
            scales.append(piece.scales)
            biases.append(piece.biases)
            errors.append(piece.errors)
    for part in (*scales, *biases):
        file.write(buffer(part))
    if errors:
        checks.judge(tensor.name, "affine4", errors)


def _pieces(tensors: Sequence[Tensor]) -> Iterator[Callable[[], _Piece]]:
    for tensor in tensors:
        for first, last in row_ranges(tensor):
            yield partial(_encode, tensor, first, last)


def _encode(tensor: Tensor, first: int, last: int) -> _Piece:
    values = read_rows(tensor, first, last)
    if not is_quantized(tensor):
        return _Piece(values, values[:0], values[:0], None)
    try:
        from citrate.formats.quantize.affine import decode_affine4, encode_affine4
    except ModuleNotFoundError as error:
        raise BackendMissingError(f"MLX needs {error.name}", hint="pip install 'citrate[mlx]'") from error
    source: Raw = values if tensor.dtype == "BF16" else to_float32(values, tensor.dtype)
    groups = source.size // GROUP
    codes = np.empty(groups * GROUP * BITS // 32, np.uint32)
    steps, edges = np.empty(groups, np.float32), np.empty(groups, np.float32)
    encode_affine4(source, codes, steps, edges, 0, groups)
    scales, biases = _narrow(steps, tensor.dtype), _narrow(edges, tensor.dtype)
    decoded = np.empty(source.size, np.float32)
    decode_affine4(codes, to_float32(scales, tensor.dtype), to_float32(biases, tensor.dtype), decoded)
    return _Piece(codes, scales, biases, compare(source, decoded))


def _narrow(values: NDArray[np.float32], dtype: str) -> Raw:
    """Round scales and biases to the weights' own type."""
    if dtype == "BF16":
        return to_bfloat16(values)
    return values.astype(np.float16).view(np.uint16) if dtype == "F16" else values


def _config(model: SourceModel) -> bytes:
    document = parse_object(canonical_config(model.config), "config.json")
    quantization: dict[str, Json] = {"group_size": GROUP, "bits": BITS, "mode": "affine"}
    return pretty({**document, "quantization": quantization, "quantization_config": quantization})


def _decoded_rows(written: SourceModel) -> Rows:
    """The weights of an MLX directory, decoded by ``mx.dequantize`` a few rows at a time."""
    for tensor in written.tensors:
        if tensor.name.endswith((".scales", ".biases")):
            continue
        for first, last in row_ranges(tensor):
            values = read_rows(tensor, first, last)
            if tensor.dtype == "U32":
                base = tensor.name.removesuffix("weight")
                scales, biases = (_mlx_rows(written.tensor(base + part), first, last) for part in ("scales", "biases"))
                yield tensor.name, first, _decoded(values.reshape(last - first, -1), scales, biases)
            else:
                yield tensor.name, first, to_float32(values, tensor.dtype)


def _decoded(codes: Raw, scales: mx.array, biases: mx.array) -> NDArray[np.float32]:
    import mlx.core as mx

    weights = mx.dequantize(mx.array(codes), scales, biases, group_size=GROUP, bits=BITS)
    return np.array(weights.astype(mx.float32)).reshape(-1)


def _mlx_rows(tensor: Tensor, first: int, last: int) -> mx.array:
    try:
        import mlx.core as mx
    except ModuleNotFoundError as error:
        raise BackendMissingError("checking MLX needs mlx", hint="pip install 'citrate[mlx]'") from error
    types = {"BF16": mx.bfloat16, "F16": mx.float16, "F32": mx.float32}
    values = mx.array(read_rows(tensor, first, last).reshape(last - first, -1))
    return values.view(types[tensor.dtype])
