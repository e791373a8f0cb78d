"""How much two models differ on given texts: the same tokens go through both, and their predictions are compared.

A model may be SafeTensors, MLX or GGUF, with an adapter on it or without. Each is evaluated as the checks of
conversions evaluate it: directories by transformers in float32, layer by layer, GGUF by llama.cpp behind walls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from citrate.core.adapters import Applied
from citrate.core.errors import FormatError, UnsupportedConversionError
from citrate.core.records import Format
from citrate.core.sink import Progress
from citrate.formats.adapter_conversion import open_updates
from citrate.formats.adapter_updates import Update
from citrate.formats.checks import llama
from citrate.formats.checks.divergence import divergences
from citrate.formats.checks.network import Outputs, Pieces, Weights
from citrate.formats.checks.reference import evaluated, source_weights
from citrate.formats.checks.tokens import tokenize
from citrate.formats.inspection import inspect
from citrate.formats.source import open_model

_VALUES_MAX = 1 << 26
"""Logits of one model that are held at a time: 256 MiB in float32."""
_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True)
class Subject:
    """A model that is compared."""

    path: Path
    format: Format
    adapter: Applied | None = None
    """In the form that a runtime of the format takes."""


@dataclass(frozen=True)
class Difference:
    """How far the second model's predictions are from the first's; divergences in nats."""

    texts: int
    positions: int
    mean: float
    """KL(first || second), the mean over every position of every text."""
    largest: float
    first_token: float
    """The same for the token that follows a whole text, the mean over the texts."""
    agreement: float
    """The share of positions at which both have the same likeliest token."""
    first_token_agreement: float


def measure(first: Subject, second: Subject, texts: Sequence[str], progress: Progress | None = None) -> Difference:
    """Compare the predictions of two models at every token of ``texts``.

    Args:
        first: what is compared with.
        second: what is compared.
        texts: not empty.
        progress: told of the texts that are done, as the stage ``logits``.

    Raises:
        FormatError: they have other vocabularies or read a text as other tokens, a text is empty or too long for one
            of them, or one cannot be evaluated.
        UnsupportedConversionError: a format that is not evaluated here.
        BackendMissingError: a library is not installed.
    """
    vocabulary, context = _common(first, second)
    sequences = _tokens(first, second, texts, context)
    found: list[NDArray[np.float64]] = []
    agreements: list[NDArray[np.bool_]] = []
    for batch in _batches(sequences, vocabulary):
        a, b = (predictions(subject, batch, vocabulary) for subject in (first, second))
        if a.shape != b.shape:
            raise FormatError("the models do not predict the same number of tokens")
        found += _per_text(np.maximum(divergences(a, b), 0), batch)
        agreements += _per_text(a.argmax(axis=1) == b.argmax(axis=1), batch)
        if progress:
            progress("logits", len(found), len(sequences))
    every, same = np.concatenate(found), np.concatenate(agreements)
    if not np.isfinite(every).all():
        raise FormatError(
            "a model predicts NaN or infinite logits", hint="citrate inspect --deep looks for such weights"
        )
    return Difference(
        texts=len(sequences),
        positions=len(every),
        mean=float(every.mean()),
        largest=float(every.max()),
        first_token=float(np.mean([each[-1] for each in found])),
        agreement=float(same.mean()),
        first_token_agreement=float(np.mean([each[-1] for each in agreements])),
    )


def _common(first: Subject, second: Subject) -> tuple[int, int]:
    """The vocabulary that both have, and the shorter of their contexts; 0: neither says."""
    found = [inspect(subject.path) for subject in (first, second)]
    for subject, each in zip((first, second), found, strict=True):
        if each.output != "logits" or subject.format is Format.TENSORRT_LLM:
            raise UnsupportedConversionError(
                f"{subject.path.name} is {each.format} of which no predictions are compared",
                hint="compared are causal language models as safetensors, mlx or gguf",
            )
    sizes = [each.architecture.vocab_size for each in found]
    if sizes[0] != sizes[1]:
        raise FormatError(
            f"the models have vocabularies of {sizes[0]:,} and {sizes[1]:,} tokens, and no common predictions",
            hint="compare models of one family, with the same tokenizer",
        )
    contexts = [each.architecture.context_length for each in found if each.architecture.context_length]
    return sizes[0], min(contexts, default=0)


def _tokens(first: Subject, second: Subject, texts: Sequence[str], context: int) -> list[list[int]]:
    read, other = (_read(subject, texts) for subject in (first, second))
    for number, (ids, theirs) in enumerate(zip(read, other, strict=True), 1):
        if ids != theirs:
            raise FormatError(
                f"the models read text {number} as other tokens", hint="compare models with the same tokenizer"
            )
        if not ids:
            raise FormatError(f"text {number} has no tokens", hint="leave it out")
        if context and len(ids) > context:
            raise FormatError(
                f"text {number} has {len(ids):,} tokens, the context holds {context:,}",
                hint="shorten it: nothing is cut",
            )
    return read


def _read(subject: Subject, texts: Sequence[str]) -> list[list[int]]:
    if subject.format is Format.GGUF:
        return llama.tokenize(subject.path, texts).special
    return tokenize(subject.path, texts, special=True)


def _batches(sequences: Sequence[list[int]], vocabulary: int) -> Iterator[list[list[int]]]:
    """Texts in their order, as many at a time as the logits of leave room for, each reckoned as long as the longest."""
    batch: list[list[int]] = []
    for ids in sequences:
        longest = max(len(each) for each in (*batch, ids))
        if batch and (len(batch) + 1) * longest * vocabulary > _VALUES_MAX:
            yield batch
            batch = []
        batch = [*batch, ids]
    yield batch


def predictions(subject: Subject, sequences: list[list[int]], vocabulary: int) -> Outputs:
    """The logits of a model at every position of ``sequences`` of token ids: positions x ``vocabulary``; raises as
    ``measure`` does."""
    if subject.format is Format.GGUF:
        return llama.logits(subject.path, sequences, vocabulary, subject.adapter)
    model = open_model(subject.path)
    weights = source_weights(model)
    if subject.adapter:
        weights = _adapted(weights, subject.adapter)
    return evaluated(model.config, weights, sequences)


def _adapted(weights: Weights, adapter: Applied) -> Weights:
    """The weights with an adapter's updates, in float32: what an adapter beside its model computes."""
    updates = {f"{update.module}.weight": update for update in open_updates(adapter.path).updates}
    missing = sorted(updates.keys() - weights.keys())
    if missing:
        raise UnsupportedConversionError(
            f"the adapter updates {missing[0]}, which is no tensor of its own in this model",
            hint="merge it into the model, and compare that",
        )
    added = {name: partial(_updated, weights[name], update, adapter.scale) for name, update in updates.items()}
    return {**weights, **added}


def _updated(source: Callable[[], Pieces], update: Update, scale: float) -> Pieces:
    a, b = (factor.wide for factor in update.factors())
    left, right = (a.T, b.T) if update.embedding else (b, a)  # an embedding's rows are tokens
    for first, flat in source():
        rows = flat.reshape(-1, right.shape[1])
        change = left[first : first + len(rows)] @ right
        yield first, (rows + np.float32(update.scale * scale) * change).reshape(-1)


def _per_text(values: NDArray[_T], sequences: Sequence[Sequence[int]]) -> list[NDArray[_T]]:
    return np.split(values, np.cumsum([len(ids) for ids in sequences])[:-1])
