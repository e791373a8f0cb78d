"""LoRA adapters, opened to be merged into their base, and the base's tensors with what they add.

One adapter of weight 1 gives the bits that PEFT's ``merge_and_unload`` gives (of DoRA the same but for the last bit of
a norm). What cannot be said by adding to matrices is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from citrate.core.errors import ConfigError, FormatError, UnsupportedConversionError
from citrate.formats import merging_kernels as kernels
from citrate.formats.adapter import MLX_WEIGHTS, WEIGHTS, open_adapter
from citrate.formats.adapter_config import CONFIG
from citrate.formats.adapter_mlx import from_mlx
from citrate.formats.adapter_updates import Update, update_of
from citrate.formats.documents import inside
from citrate.formats.dtypes import CONVERTIBLE, Raw, to_float32
from citrate.formats.merging import How, Method
from citrate.formats.merging_factors import Factors, Floats, Weighted, combined, product, updated
from citrate.formats.merging_writing import Piece, for_kernel, narrowed, of_kernel
from citrate.formats.safetensors_file import Tensor, read_header
from citrate.formats.source import SourceModel
from citrate.formats.streaming import (
    PIECE_BYTES,
    read_bytes,
    read_rows,
    read_unseen,
    require_finite,
    row_ranges,
    rows_of,
)

_OTHERWISE = (
    # settings of PEFT under which there is more to an adapter than matrices that are added
    "use_qalora", "use_bdlora", "arrow_config", "alora_invocation_tokens", "trainable_token_indices",
    "target_parameters", "layer_replication", "lora_bias", "velora_config", "monteclora_config", "kasa_config",
)  # fmt: skip
_PREFIX = "base_model.model."
_MAGNITUDE = ".lora_magnitude_vector"
_OUTPUT = "lm_head"
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight")
_INPUT_FIRST = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
"""Model types whose matrices are stored [in, out]; a square one does not tell."""


@dataclass(frozen=True)
class Opened:
    """An adapter whose every part has its place in the base; keys are the base's tensors."""

    updates: Mapping[str, Update]
    magnitudes: Mapping[str, Tensor]
    """Of DoRA: the length that each row gets."""
    whole: Mapping[str, Tensor]
    """Tensors that take the base's place: ``modules_to_save``, trained biases."""

    @property
    def rank(self) -> int:
        """The largest rank of its updates."""
        return max(update.rank for update in self.updates.values())


def open_for_merging(root: Path, base: SourceModel, name: str) -> Opened:
    """Open an adapter, of PEFT or mlx-lm, that is to be merged into ``base``.

    Args:
        root: its directory.
        base: what it was trained on.
        name: how messages call it.

    Raises:
        NotFoundError: no such directory, or no adapter in it.
        FormatError: it is damaged, or does not fit the base.
        UnsupportedConversionError: it is more than updates of matrices, or updates one that is used twice.
    """
    tensors = {tensor.name: tensor for tensor in base.tensors}
    mlx = (root / MLX_WEIGHTS).exists() and not (root / WEIGHTS).exists()
    found = _of_mlx(root) if mlx else _of_peft(root, name)
    _require_places(found, tensors, base, name)
    return found


def _of_mlx(root: Path) -> Opened:
    return Opened({f"{update.module}.weight": update for update in from_mlx(root).updates}, {}, {})


def _of_peft(root: Path, name: str) -> Opened:
    adapter = open_adapter(root)
    for key in _OTHERWISE:
        if adapter.config.get(key):
            raise _refused(name, f"{CONFIG} has {key}", "use it with PEFT, beside its base")
    updates = {f"{pair.module}.weight": update_of(pair, adapter) for pair in adapter.pairs}
    magnitudes: dict[str, Tensor] = {}
    whole: dict[str, Tensor] = {}
    for tensor in read_header(inside(root, WEIGHTS)):
        name = tensor.name.removeprefix(_PREFIX)
        if _MAGNITUDE in name:
            magnitudes[f"{name.partition(_MAGNITUDE)[0]}.weight"] = tensor
        elif ".lora_" not in name:
            whole[name.replace(".base_layer.", ".")] = tensor
    return Opened(updates, magnitudes, whole)


def _require_places(found: Opened, tensors: Mapping[str, Tensor], base: SourceModel, name: str) -> None:
    tied = base.config.tied or (f"{_OUTPUT}.weight" not in tensors and "LM" in base.config.class_name)
    embeddings = {key for key, update in found.updates.items() if update.embedding}
    for key in (*found.updates, *(found.whole if tied else ())):
        if tied and (key == f"{_OUTPUT}.weight" or key in embeddings or key.endswith(_EMBEDDINGS)):
            raise _refused(
                name,
                f"it changes {key}, and the base uses one matrix as embedding and as output, which would both change",
                "use it with PEFT, beside its base",
            )
    for key, update in found.updates.items():
        out, in_ = update.shape
        _require_shape(name, key, tensors, {(out, in_), (in_, out)})
        if key in found.magnitudes and _is_input_first(update, tensors[key], base):
            raise _refused(name, f"DoRA of {key}, which is stored [in, out]", "merge it with PEFT")
    for key, tensor in found.magnitudes.items():
        if key not in found.updates or tensor.elements != tensors[key].shape[0]:
            raise FormatError(f"{name}: {tensor.name} belongs to no update of the base")
    for key, tensor in found.whole.items():
        _require_shape(name, key, tensors, {tensor.shape})
        if tensor.dtype not in CONVERTIBLE:
            raise _refused(name, f"{tensor.name} is {tensor.dtype}", "save it in float32")


def _require_shape(name: str, key: str, tensors: Mapping[str, Tensor], shapes: set[tuple[int, ...]]) -> None:
    hint = "merge it into the model that it was trained on"
    if key not in tensors:
        raise FormatError(f"{name} does not fit: the base has no {key}", hint=hint)
    if tensors[key].shape not in shapes:
        wanted = " x ".join(map(str, tensors[key].shape))
        given = " x ".join(map(str, min(shapes)))
        raise FormatError(f"{name} does not fit: {key} is {wanted} in the base, {given} in the adapter", hint=hint)


def _refused(name: str, why: str, hint: str) -> UnsupportedConversionError:
    return UnsupportedConversionError(f"{name} cannot be merged: {why}", hint=hint)


def _is_input_first(update: Update, tensor: Tensor, base: SourceModel) -> bool:
    """Whether the base stores a matrix [in, out]: an embedding, or a Conv1D of the GPT-2 kind."""
    out, in_ = update.shape
    if out != in_:
        return tensor.shape == (in_, out)
    return update.embedding or base.config.model_type in _INPUT_FIRST


@dataclass(frozen=True)
class AdapterMerge:
    """A base with adapters merged into it (`merging_writing.Merge`)."""

    base: SourceModel
    adapters: Sequence[Opened]
    weights: Sequence[float]
    how: How

    def __post_init__(self) -> None:
        several = len(self.adapters) > 1 or self.how.method is not Method.CAT
        for adapter, weight in zip(self.adapters, self.weights, strict=True):
            if (adapter.magnitudes or adapter.whole) and (several or weight != 1):
                what = "DoRA" if adapter.magnitudes else f"its own {min(adapter.whole)}"
                raise ConfigError(
                    f"an adapter that brings {what} is merged alone, with weight 1, by {Method.CAT}",
                    hint="merge it first, and the others into the result",
                )

    @cached_property
    def rank(self) -> int:
        """The largest rank of what is added."""
        names = {name for adapter in self.adapters for name in adapter.updates}
        if self.how.method is Method.CAT:
            return max(sum(part.update.rank for part in self._parts(name)) for name in names)
        widest = max(adapter.rank for adapter in self.adapters)
        return self.how.rank or widest if self.how.method is Method.SVD else widest

    @property
    def alpha(self) -> float:
        """The numerator of the scale at which what is added would be an adapter of that rank."""
        if len(self.adapters) > 1 or self.how.method is not Method.CAT:
            return float(self.rank)
        widest = max(self.adapters[0].updates.values(), key=lambda update: update.rank)
        return float(f"{widest.scale * widest.rank * self.weights[0]:.12g}")

    def pieces(self, tensor: Tensor) -> Iterator[Piece] | None:
        """The tensor with all updates; None where no adapter has any."""
        replacing = next((a.whole[tensor.name] for a in self.adapters if tensor.name in a.whole), None)
        parts = self._parts(tensor.name)
        if parts:
            return self._updated(tensor, replacing, parts)
        return _replaced(tensor, replacing) if replacing is not None else None

    def _parts(self, name: str) -> list[Weighted]:
        pairs = enumerate(zip(self.adapters, self.weights, strict=True))
        return [Weighted(a.updates[name], weight, i) for i, (a, weight) in pairs if name in a.updates]

    def _updated(self, tensor: Tensor, replacing: Tensor | None, parts: Sequence[Weighted]) -> Iterator[Piece]:
        factors = combined(parts, self.how, len(self.adapters))
        left, right = factors.b, factors.a
        if _is_input_first(parts[0].update, tensor, self.base):
            left, right = np.ascontiguousarray(factors.a.T), np.ascontiguousarray(factors.b.T)
        magnitude = next((a.magnitudes[tensor.name] for a in self.adapters if tensor.name in a.magnitudes), None)
        lengths = _wide(magnitude, 0, magnitude.elements) if magnitude is not None else None
        rows = _Rows(tensor, replacing, Factors(right, left, factors.scale), lengths, parts[0].update.embedding)
        for first, last in row_ranges(tensor):
            yield partial(rows.added, first, last)


@dataclass(frozen=True)
class _Rows:
    """The rows of a tensor with what is added to them."""

    tensor: Tensor
    replacing: Tensor | None
    factors: Factors
    """As the tensor lies: ``b`` has its rows."""
    lengths: Floats | None
    """Of DoRA: of each row."""
    embedding: bool

    def added(self, first: int, last: int) -> Raw:
        """Rows ``first`` to ``last``, rounded once; of an embedding the update is rounded before, as PEFT does."""
        if self.replacing is None and self.lengths is None and not self.embedding:
            return self._updated(first, last)
        update = product(self.factors.b[first:last], self.factors.a, self.factors.scale)
        if self.embedding:
            update = to_float32(narrowed(update, self.tensor), self.tensor.dtype).reshape(update.shape)
        old = for_kernel(self._old(first, last), self.tensor)
        if self.lengths is not None:
            return self._directed(update, old, self.lengths[first:last])
        out = np.empty_like(old)
        kernels.added(update.reshape(-1), old, out)
        return of_kernel(out, self.tensor)

    def _updated(self, first: int, last: int) -> Raw:
        """The same in one go. A weight that is not finite makes a sum that is not, so only sums are looked through."""
        row_bytes = rows_of(self.tensor)[1]
        old = read_unseen(self.tensor, first * row_bytes, (last - first) * row_bytes)
        factors = self.factors.b[first:last], self.factors.a, self.factors.scale
        out, finite = updated(*factors, for_kernel(old, self.tensor))
        if finite and self.tensor.dtype != "F16":
            return out
        require_finite(old, self.tensor)
        return of_kernel(out, self.tensor)

    def _directed(self, update: Floats, old: Raw, lengths: Floats) -> Raw:
        """What DoRA makes of both: rows of given lengths."""
        whole = np.empty(old.shape, np.float32)
        kernels.added(update.reshape(-1), old, whole)
        rows = whole.reshape(update.shape)
        norms = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1)).astype(np.float32)
        with np.errstate(divide="ignore", invalid="ignore"):  # told by `narrowed`
            rows *= (lengths / norms)[:, None]
        return narrowed(rows, self.tensor)

    def _old(self, first: int, last: int) -> Raw:
        if self.replacing is None:
            return read_rows(self.tensor, first, last)
        columns = self.tensor.shape[-1]  # rounded to the base's type, as loading the adapter would
        return _replacement(self.tensor, self.replacing, first * columns, last * columns)


def _replaced(tensor: Tensor, replacing: Tensor) -> Iterator[Piece]:
    step = PIECE_BYTES // 4
    for start in range(0, tensor.elements, step):
        yield partial(_replacement, tensor, replacing, start, min(start + step, tensor.elements))


def _replacement(tensor: Tensor, replacing: Tensor, start: int, stop: int) -> Raw:
    return narrowed(_wide(replacing, start, stop), tensor)


def _wide(tensor: Tensor, start: int, stop: int) -> Floats:
    """Elements ``start`` to ``stop`` in float32."""
    size = tensor.size_bytes // max(1, tensor.elements)
    return to_float32(read_bytes(tensor, start * size, (stop - start) * size), tensor.dtype)
