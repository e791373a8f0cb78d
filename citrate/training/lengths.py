"""Which rows a run does not take as they are.

The trainer cuts what is longer than ``max_length``, and leaves out rows of which then nothing is left to learn. Where
``max_length`` is past the base's context, it trains on positions that the base never had. It does all that without a
word; this module counts it.
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
        past: trained on past the base's context; None where none is.
        context: the base's, in tokens; None where no row is past it.
    """

    rows: int
    cut: int
    dropped: int
    max_length: int
    past: int | None = None
    context: int | None = None

    def notes(self) -> tuple[str, ...]:
        """What a user should know of it, a sentence each."""
        limit = f"longer than max_length ({self.max_length} tokens)"
        found: list[str] = []
        if self.cut:
            found.append(f"{self.cut} of {self.rows} rows are {limit}: what is behind it is not trained on")
        if self.dropped:
            found.append(f"{self.dropped} of {self.rows} rows are left out: {limit}, nothing to learn is left of them")
        if self.past:
            found.append(
                f"{self.past} of {self.rows} rows are longer than the base's context ({self.context} tokens) and are"
                f" trained on past it: max_length: {self.context} would cut them there"
            )
        return tuple(found)


def prepared(prepare: Prepare, rows: Any, arguments: Any, context: int) -> tuple[Any, RowCount]:
    """Have TRL prepare a dataset, and count what it does to the rows.

    Args:
        prepare: TRL's preparation.
        rows: the dataset.
        arguments: TRL's, with ``max_length``.
        context: the base's, in tokens; 0: it has none.

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
    dropped, beyond = given - left, past(_lengths(found), limit, context)
    if _cuts_before(arguments):
        return found, RowCount(given, max(0, len(cut) - dropped), dropped, limit, *beyond)
    return found, RowCount(given, sum(length > limit for length in _lengths(found)), dropped, limit, *beyond)


def past(lengths: Iterable[int], limit: int, context: int) -> tuple[int | None, int | None]:
    """How many rows are trained on past the base's context, and that context; ``limit``: max_length, all in tokens."""
    found = sum(length > context for length in lengths) if 0 < context < limit else 0
    return (found, context) if found else (None, None)


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
    names = [
        name for name in ("input_ids", "chosen_ids", "rejected_ids", "completion_ids") if name in rows.column_names
    ]
    prompts = rows["prompt_ids"] if "prompt_ids" in rows.column_names else [()] * len(rows)
    return (
        len(prompt) + max(map(len, answers))
        for prompt, *answers in zip(prompts, *(rows[name] for name in names), strict=True)
    )
