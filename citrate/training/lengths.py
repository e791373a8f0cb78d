"""Which rows a run does not take as they are.

The trainer cuts what is longer than ``max_length``, and leaves out rows of which then nothing is left to learn. It does
so without a word; this module counts it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from citrate.core.errors import TrainingError

Prepare = Callable[[Any, Any], Any]
"""TRL's preparation of a dataset: (rows, arguments) -> tokenised rows."""


@dataclass(frozen=True)
class RowCount:
    """The rows of a dataset, those that are cut, and those that are left out.

    Attributes:
        rows: all of them.
        cut: trained on without what is behind ``max_length`` tokens.
        dropped: not trained on.
        max_length: of the recipe.
    """

    rows: int
    cut: int
    dropped: int
    max_length: int

    def notes(self) -> tuple[str, ...]:
        """What a user should know of it, a sentence each."""
        limit = f"longer than max_length ({self.max_length} tokens)"
        found: list[str] = []
        if self.cut:
            found.append(f"{self.cut} of {self.rows} rows are {limit}: what is behind it is not trained on")
        if self.dropped:
            found.append(f"{self.dropped} of {self.rows} rows are left out: {limit}, nothing to learn is left of them")
        return tuple(found)


def prepared(prepare: Prepare, rows: Any, arguments: Any) -> tuple[Any, RowCount]:
    """Have TRL prepare a dataset, and count what it does to the rows.

    Args:
        prepare: TRL's preparation.
        rows: the dataset.
        arguments: TRL's, with ``max_length``.

    Raises:
        TrainingError: no row is left.
    """
    limit, given = int(arguments.max_length), len(rows)
    if _cuts_before(arguments):
        rows = prepare(rows, _without_limit(arguments))  # tokenised, and not yet cut; a second time it only cuts
        cut = {at for at, ids in enumerate(rows["input_ids"]) if len(ids) > limit}
    found = prepare(rows, arguments)
    left = len(found)
    require_rows(given, left, limit)
    dropped = given - left
    if _cuts_before(arguments):
        return found, RowCount(given, max(0, len(cut) - dropped), dropped, limit)
    return found, RowCount(given, sum(length > limit for length in _lengths(found)), dropped, limit)


def require_rows(given: int, left: int, limit: int) -> None:
    """Raise TrainingError where of ``given`` rows none is left to train on; ``limit``: max_length, in tokens."""
    if not left:
        raise TrainingError(
            f"all {given} rows are longer than max_length ({limit} tokens), and nothing to learn is left of them",
            hint="raise max_length",
        )


def _cuts_before(arguments: Any) -> bool:
    """SFT cuts rows when it prepares them; preferences are cut when they are batched, rewards left out."""
    from trl import SFTConfig  # type: ignore[attr-defined]  # trl loads its names when they are asked for

    return isinstance(arguments, SFTConfig)


def _without_limit(arguments: Any) -> Any:
    changed = copy.copy(arguments)
    changed.max_length = None
    return changed


def _lengths(rows: Any) -> Iterable[int]:
    """Tokens of each row, of the longer answer where there are two."""
    names = [name for name in ("chosen_ids", "rejected_ids", "completion_ids") if name in rows.column_names]
    prompts = rows["prompt_ids"] if "prompt_ids" in rows.column_names else [()] * len(rows)
    return (
        len(prompt) + max(map(len, answers))
        for prompt, *answers in zip(prompts, *(rows[name] for name in names), strict=True)
    )
