"""What a model directory yields, logits or vectors: transformers' own class in float32, filled by our bounded reader.

transformers gets neither the folder nor a file of it, so nothing in the folder is parsed by anything but our readers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from citrate.core.errors import BackendMissingError, FormatError
from citrate.formats import families
from citrate.formats.checks import mlx
from citrate.formats.checks.texts import CODE, ENGLISH, SENTENCES
from citrate.formats.checks.tokens import has_tokenizer, tokenize
from citrate.formats.configuration import Config, canonical_config
from citrate.formats.documents import parse_object
from citrate.formats.dtypes import to_float32
from citrate.formats.families import pooling
from citrate.formats.families.family import Output
from citrate.formats.layout import convertible_tensors
from citrate.formats.mlx_source import decoded, packed
from citrate.formats.source import SourceModel
from citrate.formats.streaming import read_rows, row_ranges

if TYPE_CHECKING:
    import torch

Outputs: TypeAlias = NDArray[np.float32]
"""Logits: positions x vocabulary; or vectors: texts x hidden size."""

Rows: TypeAlias = Iterator[tuple[str, int, NDArray[np.float32]]]
"""Parameter name, first row, and rows as flat float32."""

_POSITIONS_MAX = 512
_OFFSET_MAX = 8  # encoders may keep some positions for themselves
_LOGITS_MAX = 1 << 25  # float32 values kept: 128 MiB


@lru_cache(maxsize=1)
def source_outputs(model: SourceModel) -> Outputs:
    """The source's own outputs at ``positions(model)``; kept for the next variant of the same model."""
    return evaluated(model.config, source_rows(model), positions(model), pooling_of(model))


@lru_cache(maxsize=4)
def positions(model: SourceModel) -> tuple[tuple[int, ...], ...]:
    """The token sequences to evaluate: the built-in texts, as many positions as memory and the model's context allow.

    For vectors these are sentences. A model without a tokenizer gets ids that step through its vocabulary.
    """
    config = model.config
    vectors = bool(pooling_of(model))
    most = min(_POSITIONS_MAX, max(64, _LOGITS_MAX // max(1, config.vocab_size)))
    length = max(2, min(most // 2, (config.context_length or most) - (_OFFSET_MAX if vectors else 0)))
    if not has_tokenizer(model.root):
        return tuple(tuple((start + 7919 * i) % config.vocab_size for i in range(length)) for start in (1, 2))
    texts = tokenize(model.root, SENTENCES if vectors else (ENGLISH, CODE), special=True)
    sequences = tuple(tuple(ids[:length]) for ids in texts)
    if any(not 0 <= token < config.vocab_size for ids in sequences for token in ids):
        raise FormatError("the tokenizer yields ids that the model does not have")
    return sequences


def pooling_of(model: SourceModel) -> str:
    """How an embedding model makes one vector of a text (the mean, where it does not say); empty for others."""
    if families.output_of(model.config) is not Output.EMBEDDING:
        return ""
    return pooling.mode_of(model.root) or "mean"


def source_rows(model: SourceModel) -> Rows:
    """The weights of a directory, a few rows at a time; those that MLX has quantised as MLX itself decodes them."""
    whole = decoded(model)
    matrices = {} if whole is model else packed(model)
    for tensor in convertible_tensors(whole):
        if tensor.name in matrices:
            for first, values in mlx.rows(matrices[tensor.name]):
                yield tensor.name, first, values
            continue
        for first, last in row_ranges(tensor):
            yield tensor.name, first, to_float32(read_rows(tensor, first, last), tensor.dtype)


def evaluated(config: Config, rows: Rows, sequences: Sequence[Sequence[int]], pooled: str = "") -> Outputs:
    """Build transformers' class for ``config``, fill it with ``rows`` and evaluate ``sequences``.

    Args:
        config: the model's configuration.
        rows: its weights.
        sequences: token ids.
        pooled: how each sequence becomes one vector; empty for logits at every position.

    Raises:
        FormatError: rows do not fill the model exactly, or transformers cannot build or run it.
        BackendMissingError: torch or transformers is not installed.
    """
    network = _built(config, pooled)
    _fill(network, rows)
    try:
        return _evaluate(network.eval(), sequences, pooled)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise FormatError(f"transformers cannot run this model: {_first_line(error)}") from error


def _built(config: Config, pooled: str) -> torch.nn.Module:
    try:
        import torch
        from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
    except ModuleNotFoundError as error:
        raise BackendMissingError(
            f"the logit check needs {error.name}", hint="pip install 'citrate[training]', or use --checks tensors"
        ) from error
    document = parse_object(canonical_config(config), "config.json")
    for key in ("quantization", "quantization_config", "model_type", "dtype", "torch_dtype"):
        document.pop(key, None)
    build: Callable[..., torch.nn.Module] = (AutoModel if pooled else AutoModelForCausalLM).from_config
    settings = {"add_pooling_layer": False} if pooled else {}
    try:
        made = AutoConfig.for_model(config.model_type, **document)
        return build(made, dtype=torch.float32, attn_implementation="eager", **settings)
    except Exception as error:
        raise FormatError(f"transformers cannot build this config.json: {_first_line(error)}") from error


def _fill(network: torch.nn.Module, rows: Rows) -> None:
    import torch

    parameters = dict(network.named_parameters())  # a tied output matrix is the embedding and does not appear
    missing = {name: parameter.numel() for name, parameter in parameters.items()}
    with torch.no_grad():
        for name, first, values in rows:
            if name not in parameters:
                raise FormatError(f"tensor {name!r} is none of the model's parameters")
            parameter = parameters[name]
            width = parameter.shape[-1] if parameter.dim() > 1 else 1
            parameter.view(-1)[first * width : first * width + values.size] = torch.from_numpy(values)
            missing[name] -= values.size
    wrong = sorted(name for name, count in missing.items() if count)
    if wrong:
        raise FormatError(f"tensor {wrong[0]!r} was not filled exactly")


def _evaluate(network: Callable[..., object], sequences: Sequence[Sequence[int]], pooled: str) -> Outputs:
    import torch

    parts: list[Outputs] = []
    with torch.inference_mode():
        for ids in sequences:
            output = network(input_ids=torch.tensor([list(ids)]), use_cache=False)
            values = getattr(output, "last_hidden_state" if pooled else "logits")[0].to(torch.float32).numpy()
            parts.append(_pooled(values, pooled))
    return np.concatenate(parts)


def _pooled(vectors: Outputs, mode: str) -> Outputs:
    """One row of a sequence's vectors; all of them where nothing is pooled."""
    if mode == "mean":
        mean: Outputs = vectors.mean(axis=0, keepdims=True)
        return mean
    return {"cls": vectors[:1], "lasttoken": vectors[-1:]}.get(mode, vectors)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
