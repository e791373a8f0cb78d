"""What a model directory yields, logits or vectors: transformers' own class in float32, filled by our bounded reader.

transformers gets neither the folder nor a file of it, so nothing in the folder is parsed by anything but our readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

from citrate.core.errors import FormatError
from citrate.formats import families
from citrate.formats.checks import mlx, network
from citrate.formats.checks.network import Outputs, Pieces, Weights
from citrate.formats.checks.texts import CODE, ENGLISH, SENTENCES
from citrate.formats.checks.tokens import has_tokenizer, tokenize
from citrate.formats.configuration import Config
from citrate.formats.dtypes import to_float32
from citrate.formats.families import pooling
from citrate.formats.families.family import Output
from citrate.formats.layout import convertible_tensors
from citrate.formats.mlx_source import decoded, packed
from citrate.formats.safetensors_file import Tensor
from citrate.formats.source import SourceModel
from citrate.formats.streaming import read_rows, row_ranges

__all__ = ["Outputs", "evaluated", "most_positions", "pooling_of", "positions", "source_outputs", "source_weights"]

_POSITIONS_MAX = 512
_OFFSET_MAX = 8  # encoders may keep some positions for themselves
_LOGITS_MAX = 1 << 25  # float32 values kept: 128 MiB


@lru_cache(maxsize=1)
def source_outputs(model: SourceModel) -> Outputs:
    """The source's own outputs at ``positions(model)``; kept for the next variant of the same model."""
    return evaluated(model.config, source_weights(model), positions(model), pooling_of(model))


@lru_cache(maxsize=4)
def positions(model: SourceModel) -> tuple[tuple[int, ...], ...]:
    """The token sequences to evaluate: the built-in texts, as many positions as memory and the model's context allow.

    For vectors these are sentences. A model without a tokenizer gets ids that step through its vocabulary.
    """
    config = model.config
    vectors = bool(pooling_of(model))
    most = most_positions(config)
    length = max(2, min(most // 2, (config.context_length or most) - (_OFFSET_MAX if vectors else 0)))
    if not has_tokenizer(model.root):
        return tuple(tuple((start + 7919 * i) % config.vocab_size for i in range(length)) for start in (1, 2))
    texts = tokenize(model.root, SENTENCES if vectors else (ENGLISH, CODE), special=True)
    sequences = tuple(tuple(ids[:length]) for ids in texts)
    if any(not 0 <= token < config.vocab_size for ids in sequences for token in ids):
        raise FormatError("the tokenizer yields ids that the model does not have")
    return sequences


def most_positions(config: Config) -> int:
    """How many positions are evaluated at most: fewer where a vocabulary is large."""
    return min(_POSITIONS_MAX, max(64, _LOGITS_MAX // max(1, config.vocab_size)))


def pooling_of(model: SourceModel) -> str:
    """How an embedding model makes one vector of a text (the mean, where it does not say); empty for others."""
    if families.output_of(model.config) is not Output.EMBEDDING:
        return ""
    return pooling.mode_of(model.root) or "mean"


def source_weights(model: SourceModel) -> Weights:
    """The weights of a directory, a few rows at a time; those that MLX has quantised as MLX itself decodes them."""
    whole = decoded(model)
    matrices = {} if whole is model else packed(model)
    return {
        tensor.name: partial(mlx.rows, matrices[tensor.name]) if tensor.name in matrices else partial(_rows, tensor)
        for tensor in convertible_tensors(whole)
    }


def evaluated(config: Config, weights: Weights, sequences: Sequence[Sequence[int]], pooled: str = "") -> Outputs:
    """Evaluate ``sequences`` by transformers' class for ``config``, one layer after the other.

    Args:
        config: the model's configuration.
        weights: its weights.
        sequences: token ids.
        pooled: how each sequence becomes one vector; empty for logits at every position.

    Raises:
        FormatError: weights do not fill the model exactly, or transformers cannot build or run it.
        BackendMissingError: torch or transformers is not installed.
    """
    return network.evaluate(network.built(config, pooled=bool(pooled)), weights, sequences, pooled)


def _rows(tensor: Tensor) -> Pieces:
    for first, last in row_ranges(tensor):
        yield first, to_float32(read_rows(tensor, first, last), tensor.dtype)
