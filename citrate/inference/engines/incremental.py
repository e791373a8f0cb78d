"""Text from token ids, one token at a time, for tokenizers that only decode whole sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_INCOMPLETE = "\ufffd"


class IncrementalText:
    """Gives out what each token adds. Decodes a short window only, so a long answer stays linear in time."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._known = 0
        """``_ids[:_known]`` have been given out; they stay in the window, because spacing depends on what precedes."""

    def push(self, token: int) -> str:
        """The text that ``token`` completes; empty inside a character that spans tokens."""
        self._ids.append(token)
        before, after = self._decode(self._ids[: self._known]), self._decode(self._ids)
        if after.endswith(_INCOMPLETE):
            return ""
        self._ids = self._ids[self._known :]
        self._known = len(self._ids)
        return after[len(before) :]
