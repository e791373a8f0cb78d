"""Whether answers show marks. Texts are looked for here; regular expressions, which may be a stranger's, in a child."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from citrate.core.confinement import searching
from citrate.core.errors import FormatError
from citrate.fine_tuning.suites.parts import Mark

ANSWER_MAX_CHARACTERS = 1 << 17
"""More than any tokenizer makes of as many tokens as a suite can ask for."""


def shown(questions: Sequence[tuple[Mark, str]], seconds: float = searching.SECONDS) -> tuple[bool, ...]:
    """Whether each mark shows in its answer.

    Args:
        questions: mark and answer.
        seconds: of processor time, for all regular expressions together.

    Raises:
        ConfigError: a regular expression is malformed.
        FormatError: an answer is too long, or regular expressions take too long.
    """
    for _, answer in questions:
        if len(answer) > ANSWER_MAX_CHARACTERS:
            raise FormatError(
                f"an answer has {len(answer):,} characters", hint="fewer tokens: max_tokens, in the suite"
            )
    by_words = [_has_words(mark, answer) for mark, answer in questions]
    left = [at for at, (mark, _) in enumerate(questions) if by_words[at] and mark.regex]
    hits = searching.found([(questions[at][0].regex, questions[at][1]) for at in left], seconds)
    for at, hit in zip(left, hits, strict=True):
        by_words[at] = hit
    return tuple(by_words)


def require_sound(marks: Iterable[Mark]) -> None:
    """Raise ConfigError if one of the marks has a regular expression that is none."""
    searching.require_sound([mark.regex for mark in marks if mark.regex])


def _has_words(mark: Mark, answer: str) -> bool:
    return all(word in answer for word in mark.must) and not any(word in answer for word in mark.must_not)
