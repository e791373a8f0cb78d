"""The gate on tokenizers: a variant's own one does to every line of the corpus what the source's does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from citrate.core.errors import FormatError
from citrate.core.records import Check, Variant
from citrate.formats import families
from citrate.formats.checks import tokens
from citrate.formats.checks.corpus import Line, lines_for
from citrate.formats.checks.tokens import Tokenized
from citrate.formats.families.family import Output
from citrate.formats.source import SourceModel
from citrate.formats.vocabulary_tokens import Deviation

_HINT = "this tokenizer cannot be expressed in this format: leave the variant out"


def check(
    model: SourceModel,
    variant: Variant,
    deviation: Deviation | None,
    tokenize: Callable[[Sequence[str]], Tokenized],
) -> tuple[Check, ...]:
    """Compare token ids, with and without special tokens, and the text that they read as again.

    Where the format cannot express the source's tokenizer exactly, the comparison is with what it can express, and a
    check of its own says how many lines come out otherwise than by the source.

    Args:
        model: the source.
        variant: what is compared, for messages.
        deviation: what the format expresses instead of the source's tokenizer; None where that itself.
        tokenize: the artifact's own tokenizer.

    Raises:
        FormatError: a line comes out otherwise; the message names it.
    """
    if not tokens.has_tokenizer(model.root):
        return (Check("tokens", True, "not run"),)
    lines = lines_for(model.root)
    texts = tuple(line.text for line in lines)
    source, wanted = _expected(model, deviation, texts)
    found = tokenize(texts)
    _require(variant, "tokens", lines, list(_other_ids(wanted, found)))
    checks = [Check("tokens", True, "0", "0")]
    if deviation:
        deviating = sum(1 for _ in _other_ids(source, wanted))
        checks.append(Check(f"tokens: {deviation.what}", True, str(deviating)))
    if families.output_of(model.config) is not Output.EMBEDDING:  # nobody reads an encoder's tokens again
        _require(variant, "round trip", lines, list(_lost(texts, wanted, found)))
        checks.append(Check("round trip", True, "0", "0"))
    return tuple(checks)


def _expected(model: SourceModel, deviation: Deviation | None, texts: Sequence[str]) -> tuple[Tokenized, Tokenized]:
    """What the source's tokenizer makes of ``texts``, and what the format is to make of them."""
    if deviation:
        return tokens.tokenized_beside(model.root, deviation.document, texts)
    source = tokens.tokenized(model.root, texts)
    return source, source


def _other_ids(wanted: Tokenized, found: Tokenized) -> Iterator[int]:
    """The places whose token ids differ."""
    both = zip(wanted.plain, found.plain, wanted.special, found.special, strict=True)
    return (at for at, (a, b, c, d) in enumerate(both) if a != b or c != d)


def _lost(texts: Sequence[str], wanted: Tokenized, found: Tokenized) -> Iterator[int]:
    """The places where a tokenizer should give its text back, and does not; a space in front is SentencePiece's."""
    both = zip(texts, wanted.decoded, found.decoded, strict=True)
    return (at for at, (text, kept, other) in enumerate(both) if kept == text and other not in (text, " " + text))


def _require(variant: Variant, name: str, lines: Sequence[Line], wrong: Sequence[int]) -> None:
    if wrong:
        first = lines[wrong[0]]
        raise FormatError(
            f"check {name!r} failed for {variant}: {len(wrong)} of {len(lines)} lines, limit 0; "
            f"the first is line {wrong[0] + 1} ({first.kind}): {first.text!r:.60}",
            hint=_HINT,
        )
