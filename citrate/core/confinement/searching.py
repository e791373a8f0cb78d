"""A stranger's regular expressions, searched for behind walls: one that backtracks for ever is an error, not a hang."""

from __future__ import annotations

from collections.abc import Sequence

from citrate.core.canonical import Json
from citrate.core.confinement.child import Limits, ask
from citrate.core.errors import FormatError

SECONDS = 5.0
"""Of processor time, for all searches of a call together; searches through answers take microseconds."""
_MEMORY_BYTES = 256 << 20
_WALL_S = 300.0
"""A machine so busy that 5 s of work take longer has other troubles."""


def found(searches: Sequence[tuple[str, str]], seconds: float = SECONDS) -> tuple[bool, ...]:
    """Whether each regular expression (of Python's ``re``) is found in its text.

    Args:
        searches: expression and text.
        seconds: of processor time.

    Raises:
        ConfigError: an expression is malformed; the message quotes it.
        FormatError: the searches take too long or too much; the message quotes the expression that was on.
        UnavailableError: no sandbox here.
    """
    if not searches:
        return ()
    asked = list(dict.fromkeys(searches))
    limits = Limits(_MEMORY_BYTES, _WALL_S, answer_bytes=len(asked))
    request: dict[str, Json] = {
        "searches": [[pattern, text] for pattern, text in asked],
        "milliseconds": round(1000 * seconds),
    }
    said = ask("citrate.core.confinement.searching_process", request, (), limits, what="a regular expression")
    if len(said) != len(asked):
        raise FormatError("the search for regular expressions answers nonsense")
    hits = {search: letter == ord("1") for search, letter in zip(asked, said, strict=True)}
    return tuple(hits[search] for search in searches)


def require_sound(patterns: Sequence[str]) -> None:
    """Raise as ``found`` does unless each is a regular expression."""
    found([(pattern, "") for pattern in dict.fromkeys(patterns)])
