"""Whether rows teach what their method learns from them: looked at before a run, and not when one is verified.

TRL asks neither. In a conversation it learns every word, and of one that nobody answers the words of whoever asks; KTO
weighs good answers against bad ones, and with one kind only it goes on without the other. Both are data gone wrong.
"""

from __future__ import annotations

from citrate.core.canonical import Json
from citrate.core.errors import FormatError
from citrate.training.rows import Row

_LEARNT = ("messages", "completion", "chosen", "rejected")
"""Columns in which the model speaks."""
_ONE_KIND = {
    True: "answers that are called bad belong to it; without any, train by sft: prompt + completion",
    False: "answers that are called good belong to it",
}


class Teaching:
    """The rows of a dataset, seen one by one, and then as a whole."""

    def __init__(self) -> None:
        self._rows, self._labels = 0, set[bool]()

    def see(self, row: Row) -> None:
        """Take in a row, whose shape was checked.

        Raises:
            FormatError: a conversation in it has no answer.
        """
        for name in _LEARNT:
            if isinstance(conversation := row.get(name), list) and not any(map(_answers, conversation)):
                raise FormatError(f"{name} has no turn of the assistant that says something")
        self._rows += 1
        if isinstance(label := row.get("label"), bool):
            self._labels.add(label)

    def require_enough(self, name: str) -> None:
        """Hold all rows of the file ``name`` against what is learnt from them together.

        Raises:
            FormatError: all have the same label.
        """
        if len(self._labels) == 1:
            (label,) = self._labels
            all_rows = f"all {self._rows} rows have" if self._rows > 1 else "its one row has"
            raise FormatError(
                f"{name}: {all_rows} the label {str(label).lower()}: kto learns good answers against bad ones",
                hint=_ONE_KIND[label],
            )


def _answers(message: Json) -> bool:
    return isinstance(message, dict) and message["role"] == "assistant" and bool(str(message["content"]).strip())
