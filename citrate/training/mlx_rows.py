"""A dataset's rows as MLX is trained on them: the tokens that TRL would make of them, and in which order they come.

What a row means follows from the recipe and not from what trains: text and completions end with the tokenizer's end of
text, conversations go through its chat template, and of prompt and completion the completion alone is learnt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from citrate.training import dataset
from citrate.training.lengths import RowCount, past, require_rows
from citrate.training.recipe import Recipe
from citrate.training.rows import Row


@dataclass(frozen=True)
class Tokens:
    """A row; what is before ``begin`` is read and not learnt."""

    ids: tuple[int, ...]
    begin: int


@dataclass(frozen=True)
class Batch:
    """Rows that go through the model together.

    Attributes:
        ids: int32 [rows, tokens], filled up with zeros.
        spans: int32 [rows, 2], the places of the first and the last token that is learnt, counted from 0.
        tokens: of all rows, without what they are filled up with.
    """

    ids: NDArray[np.int32]
    spans: NDArray[np.int32]
    tokens: int


class Batches:
    """The batches of every step; each follows from the step alone, so a run goes on anywhere."""

    def __init__(self, rows: Sequence[Tokens], recipe: Recipe) -> None:
        """``rows``: not empty."""
        self._rows, self._recipe = rows, recipe
        self._epoch, self._order = -1, list[int]()

    def of_step(self, step: int) -> Iterator[Batch]:
        """The batches of a step, from 1: as many as are accumulated."""
        size, count = self._recipe.batch_size, self._recipe.accumulation
        first = (step - 1) * size * count
        for begin in range(first, first + size * count, size):
            yield _padded([self._rows[self._row(place)] for place in range(begin, begin + size)])

    def epoch(self, step: int) -> float:
        """How often the rows have been gone through after a step."""
        return step * self._recipe.batch_size * self._recipe.accumulation / len(self._rows)

    def _row(self, place: int) -> int:
        epoch, within = divmod(place, len(self._rows))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, order(self._recipe.seed, epoch, len(self._rows))
        return self._order[within]


def order(seed: int, epoch: int, rows: int) -> list[int]:
    """In which order the rows of an epoch come: ascending by SHA-256 of ``seed/epoch/row`` in decimals, all from 0."""

    def place(row: int) -> bytes:
        return hashlib.sha256(f"{seed}/{epoch}/{row}".encode()).digest()

    return sorted(range(rows), key=place)


def tokenized(folder: Path, tokenizer: Any, max_length: int, context: int) -> tuple[list[Tokens], RowCount]:
    """The rows of a dataset that can be learnt from, cut behind ``max_length``, and what became of the others.

    Args:
        folder: the dataset.
        tokenizer: transformers' own for the base.
        max_length: in tokens.
        context: the base's, in tokens; 0: it has none.

    Raises:
        TrainingError: no row is left.
        ValueError: the base has no chat template, and the rows are conversations.
    """
    kept: list[Tokens] = []
    rows = cut = 0
    for _, row in dataset.rows(folder):
        rows += 1
        whole = _tokens(row, tokenizer)
        ids = whole.ids[:max_length]
        if len(ids) > max(whole.begin, 1):  # the first token is predicted from nothing
            kept.append(Tokens(ids, whole.begin))
            cut += len(ids) < len(whole.ids)
    require_rows(rows, len(kept), max_length)
    beyond = past((len(row.ids) for row in kept), max_length, context)
    return kept, RowCount(rows, cut, rows - len(kept), max_length, *beyond)


def _tokens(row: Row, tokenizer: Any) -> Tokens:
    if "messages" in row:
        return Tokens(_of_chat(tokenizer, row["messages"]), 0)
    if "text" in row:
        return Tokens(_of_text(tokenizer, _ended(row["text"], tokenizer)), 0)
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, list):
        alone = _of_chat(tokenizer, prompt, add_generation_prompt=True)
        whole = _of_chat(tokenizer, [*prompt, *completion])  # type: ignore[misc]  # rows have one shape: a list, too
    else:
        alone, whole = _of_text(tokenizer, prompt), _of_text(tokenizer, f"{prompt}{_ended(completion, tokenizer)}")
    same = (mine == other for mine, other in zip(alone, whole, strict=False))
    return Tokens(whole, next((at for at, equal in enumerate(same) if not equal), min(len(alone), len(whole))))


def _ended(text: object, tokenizer: Any) -> str:
    end = tokenizer.eos_token or ""
    return str(text) if str(text).endswith(end) else f"{text}{end}"


def _of_text(tokenizer: Any, text: object) -> tuple[int, ...]:
    return tuple(tokenizer(text=text)["input_ids"])


def _of_chat(tokenizer: Any, messages: object, *, add_generation_prompt: bool = False) -> tuple[int, ...]:
    found = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, add_generation_prompt=add_generation_prompt
    )
    return tuple(found["input_ids"])


def _padded(rows: Sequence[Tokens]) -> Batch:
    ids = np.zeros((len(rows), max(len(row.ids) for row in rows)), np.int32)
    for at, row in enumerate(rows):
        ids[at, : len(row.ids)] = row.ids
    spans = np.array([(row.begin, len(row.ids) - 1) for row in rows], np.int32)
    return Batch(ids, spans, sum(len(row.ids) for row in rows))
