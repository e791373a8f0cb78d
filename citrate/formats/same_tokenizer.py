"""What every format offers whose folders have the source's own tokenizer.json, as it is: it cuts text as the source
does, and there is nothing to make up for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from citrate.formats.checks import tokens
from citrate.formats.checks.tokens import Tokenized
from citrate.formats.source import SourceModel
from citrate.formats.vocabulary_tokens import Deviation


def tokenize(path: Path, texts: Sequence[str]) -> Tokenized:
    """By the artifact's tokenizer.json."""
    return tokens.tokenized(path, texts)


def deviation(model: SourceModel) -> Deviation | None:  # noqa: ARG001 - the same for every model
    """None: the tokenizer is passed on as it is."""
    return None
