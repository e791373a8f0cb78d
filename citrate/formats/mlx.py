"""MLX: a directory for Apple's runtime, quantised or not, with the arrays that ``mlx_lm.convert`` writes.

Written without MLX, which need not be installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from citrate.core.canonical import Json
from citrate.core.errors import FormatError
from citrate.core.records import Check, Format, Variant
from citrate.core.sink import SinkFile
from citrate.formats import same_weights
from citrate.formats.checks import metadata
from citrate.formats.checks.reference import Outputs, evaluated, positions, source_weights
from citrate.formats.configuration import canonical_config
from citrate.formats.conversion import Conversion, Request, converter_version
from citrate.formats.documents import parse_object, pretty
from citrate.formats.dtypes import Raw, all_finite, to_float32
from citrate.formats.families.family import Output
from citrate.formats.layout import convertible_tensors, why_not
from citrate.formats.measure import BlockErrors, TensorErrors, compare
from citrate.formats.mlx_affine import WRITTEN, Affine, encode, narrow
from citrate.formats.safetensors import INDEX, write_companions, write_file
from citrate.formats.safetensors_file import Planned, Tensor, header_bytes
from citrate.formats.same_tokenizer import deviation, tokenize  # noqa: F401 - this format's too
from citrate.formats.same_weights import Passed
from citrate.formats.sharding import shard_names
from citrate.formats.source import SourceModel, open_model
from citrate.formats.streaming import buffer, in_order, read_rows, row_ranges

BARE = False
TARGETS: Mapping[str, tuple[str, ...]] = {}
CHECKED_BY: Mapping[str, tuple[str, ...]] = {"full": ("mlx",)}
_SHARD_BYTES = 5 << 30
_CAST = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
_LIMITS = {"": "0.001", "4bit-g32": "0.15", "4bit": "0.2", "4bit-g128": "0.3"}
"""Mean divergence in nats. Unquantised weights are the source's own unless config.json asks for another type."""


@dataclass(frozen=True)
class _Piece:
    """Rows of a tensor, encoded; ``scales`` and ``biases`` are empty where the rows are passed on as they are."""

    weights: Raw
    scales: Raw
    biases: Raw
    errors: BlockErrors | None


def quantizations(model: SourceModel) -> tuple[str, ...]:
    """The quantizations of ``model`` that citrate writes; empty where it cannot be converted."""
    return () if refusal(model) else tuple(WRITTEN)


def refusal(model: SourceModel) -> str:
    """Why ``model`` cannot become MLX; empty where it can."""
    return why_not(model, Format.MLX)


def convert(requests: Sequence[Request]) -> tuple[Conversion, ...]:
    """Write the directory; raises as ``citrate.formats.convert`` does."""
    return tuple(_convert(request) for request in requests)


def _convert(request: Request) -> Conversion:
    model = request.model
    plan = _Plan(WRITTEN[request.variant.quantization], _cast(model))
    shards = _shards(convertible_tensors(model), plan)
    names = shard_names(len(shards))
    checks, done = TensorErrors(), 0
    weight_map: dict[str, Json] = {}
    request.report(0)
    for name, tensors in zip(names, shards, strict=True):
        done = _write_shard(request, plan, name, tensors, checks, done)
        weight_map |= {entry.name: name for tensor in tensors for entry in plan.planned(tensor)}
    total = sum(entry.size_bytes for tensors in shards for tensor in tensors for entry in plan.planned(tensor))
    sizes: dict[str, Json] = {"total_size": total, "total_parameters": model.architecture.parameters}
    write_file(request.sink, INDEX, pretty({"metadata": sizes, "weight_map": weight_map}))
    write_companions(model, request.sink, _config(model, plan.affine))
    return Conversion(
        variant=request.variant,
        checks=checks.checks(),
        converter="citrate.formats.mlx",
        version=converter_version(),
        arguments=plan.affine.arguments if plan.affine else {},
        source_dtype=model.source_dtype,
        bare=BARE,
    )


def toolchain(quantization: str) -> Mapping[str, str]:  # noqa: ARG001 - the same for all
    """Empty: the bytes depend on nobody else's programs."""
    return {}


def faults(model: SourceModel, quantization: str, path: Path) -> list[str]:  # noqa: ARG001 - the same for all
    """What the directory lacks of its source, or says otherwise."""
    return metadata.of_folder(model, path, ("quantization", "quantization_config"))


def passed_on(model: SourceModel, variant: Variant, path: Path) -> tuple[Check, ...]:
    """Compare the tensors that are neither quantised nor cast: all of an unquantised model, norms of others."""
    plan = _Plan(WRITTEN[variant.quantization], _cast(model))
    written = {tensor.name: tensor for tensor in open_model(path).tensors}
    kept = [t for t in convertible_tensors(model) if not plan.is_quantized(t) and plan.dtype(t) == t.dtype]
    return (same_weights.check(variant, (Passed(t, written.get(t.name)) for t in kept)),) if kept else ()


def outputs(model: SourceModel, path: Path) -> Outputs:
    """Logits of the weights as MLX itself decodes them, by transformers: quantised MLX is too slow without a GPU."""
    written = open_model(path)
    return evaluated(written.config, source_weights(written), positions(model))


def limit(quantization: str, output: Output) -> str:  # noqa: ARG001 - MLX has decoders only
    """In nats."""
    return _LIMITS.get(quantization, "0.01")


def _cast(model: SourceModel) -> str:
    """The type that mlx-lm casts weights to, because config.json asks for it; empty where each keeps its own."""
    wanted = model.config.document.get("torch_dtype")
    return _CAST.get(wanted, "") if isinstance(wanted, str) else ""


@dataclass(frozen=True)
class _Plan:
    """What becomes of each tensor."""

    affine: Affine | None
    cast: str
    """The type of everything that is written; empty: each tensor keeps its own."""

    def dtype(self, tensor: Tensor) -> str:
        """The type of a tensor, or of its scales and biases."""
        return self.cast or tensor.dtype

    def is_quantized(self, tensor: Tensor) -> bool:
        """Whether a tensor is encoded: matrices (embeddings too) whose rows divide into groups, as mlx-lm chooses."""
        return self.affine is not None and len(tensor.shape) == 2 and tensor.shape[1] % self.affine.group == 0

    def planned(self, tensor: Tensor) -> list[Planned]:
        """A tensor as it is, or its codes, scales and biases."""
        dtype = self.dtype(tensor)
        if self.affine is None or not self.is_quantized(tensor):
            return [Planned(tensor.name, dtype, tensor.shape)]
        rows, columns = tensor.shape
        base = tensor.name.removesuffix("weight")
        return [
            Planned(tensor.name, "U32", (rows, self.affine.words(columns))),
            Planned(base + "scales", dtype, (rows, columns // self.affine.group)),
            Planned(base + "biases", dtype, (rows, columns // self.affine.group)),
        ]

    def kind(self, tensor: Tensor) -> str:
        """The type by which a tensor's errors are judged."""
        return self.affine.kind if self.affine and self.is_quantized(tensor) else self.dtype(tensor)


def _shards(tensors: Sequence[Tensor], plan: _Plan) -> list[list[Tensor]]:
    """Tensors in order of their names, cut into files of at most 5 GiB, as mlx-lm cuts them.

    What would leave an odd offset behind comes last, so that every uint32 array is aligned for a memory map.
    """
    shards: list[list[Tensor]] = [[]]
    size = 0
    for tensor in sorted(tensors, key=lambda t: (any(p.size_bytes % 4 for p in plan.planned(t)), t.name)):
        needed = sum(entry.size_bytes for entry in plan.planned(tensor))
        if shards[-1] and size + needed > _SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += needed
    return shards


def _write_shard(
    request: Request, plan: _Plan, name: str, tensors: Sequence[Tensor], checks: TensorErrors, done: int
) -> int:
    planned = [entry for tensor in tensors for entry in plan.planned(tensor)]
    header = header_bytes(planned, {"format": "mlx"})
    file = request.sink.open(name, len(header) + sum(entry.size_bytes for entry in planned))
    file.write(header)
    with closing(in_order(_pieces(tensors, plan), request.threads)) as pieces:
        for tensor in tensors:
            errors = _write_tensor(tensor, pieces, file)
            if errors:
                checks.judge(tensor.name, plan.kind(tensor), errors)
            done += tensor.size_bytes
            request.report(done)
    file.close()
    return done


def _write_tensor(tensor: Tensor, pieces: Iterator[_Piece], file: SinkFile) -> list[BlockErrors]:
    """Codes as they come; scales and biases, an eighth of them, when the last code is out."""
    scales: list[Raw] = []
    biases: list[Raw] = []
    errors: list[BlockErrors] = []
    for _ in row_ranges(tensor):
        piece = next(pieces)
        file.write(buffer(piece.weights))
        scales.append(piece.scales)
        biases.append(piece.biases)
        if piece.errors:
            errors.append(piece.errors)
    for part in (*scales, *biases):
        if part.size:
            file.write(buffer(part))
    return errors


def _pieces(tensors: Sequence[Tensor], plan: _Plan) -> Iterator[Callable[[], _Piece]]:
    for tensor in tensors:
        for first, last in row_ranges(tensor):
            yield partial(_encode, tensor, plan, first, last)


def _encode(tensor: Tensor, plan: _Plan, first: int, last: int) -> _Piece:
    values = read_rows(tensor, first, last)
    dtype, errors = plan.dtype(tensor), None
    if dtype != tensor.dtype:
        wide = to_float32(values, tensor.dtype)
        values = narrow(wide, dtype)
        if not all_finite(values, dtype):
            raise FormatError(
                f"tensor {tensor.name!r} holds a weight too large for {dtype}, which config.json asks for",
                hint="correct torch_dtype in config.json",
            )
        errors = compare(wide, to_float32(values, dtype))
    if plan.affine is None or not plan.is_quantized(tensor):
        return _Piece(values, values[:0], values[:0], errors)
    source: Raw = values if dtype == "BF16" else to_float32(values, dtype)
    made = encode(source, dtype, plan.affine)
    return _Piece(made.codes, made.scales, made.biases, compare(source, made.decoded))


def _config(model: SourceModel, affine: Affine | None) -> bytes:
    if affine is None:
        return canonical_config(model.config)
    document = parse_object(canonical_config(model.config), "config.json")
    quantization: dict[str, Json] = {"group_size": affine.group, "bits": affine.bits, "mode": "affine"}
    return pretty({**document, "quantization": quantization, "quantization_config": quantization})
