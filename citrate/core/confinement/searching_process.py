"""The child of ``searching``. Run as a module, never imported."""

from __future__ import annotations

import re
import sys
from functools import cache

from citrate.core.confinement.processor_time import time_limit
from citrate.core.confinement.serving import Request, serve
from citrate.core.errors import ConfigError, FormatError

_HINT = "name the words instead (must), or repeat nothing that repeats: (a+)+"


def answer(request: Request) -> bytes:
    """A letter a search: 1 where it was found."""
    searches, milliseconds = request["searches"], request["milliseconds"]
    assert isinstance(searches, list) and isinstance(milliseconds, int)  # our own parent's
    letters, pattern = [], ""
    try:
        with time_limit(milliseconds / 1000):
            for search in searches:
                assert isinstance(search, list)
                pattern, text = map(str, search)
                letters.append(b"1" if _compiled(pattern).search(text) else b"0")
    except TimeoutError:
        raise FormatError(
            f"looking for {pattern!r:.80} takes more than {milliseconds / 1000:g} s of processor time", hint=_HINT
        ) from None
    except MemoryError:
        raise FormatError(f"looking for {pattern!r:.80} takes more memory than it may", hint=_HINT) from None
    return b"".join(letters)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(
            f"{pattern!r:.80} is no regular expression: {error}", hint="as Python's re has them; quote it in YAML"
        ) from None


if __name__ == "__main__":
    sys.exit(serve(answer))
