"""The text on which the range of activations is measured: committed, so that every machine measures the same."""

from __future__ import annotations

import hashlib
from importlib import resources

from citrate.core.errors import UnsupportedConversionError
from citrate.formats.checks.tokens import has_tokenizer, tokenize
from citrate.formats.source import SourceModel

WITHOUT_TOKENIZER = "activations cannot be measured without tokenizer.json"
_TOKENS_MAX = 512
"""Of each of the eight sections (prose, manuals, Python, Solidity, two of many scripts, tables, stories)."""


def sequences(model: SourceModel) -> list[list[int]]:
    """The sections as token ids, as long as the model's context allows.

    Raises:
        UnsupportedConversionError: the model has no tokenizer.json.
        BackendMissingError: the package tokenizers is not installed.
    """
    if not has_tokenizer(model.root):
        raise UnsupportedConversionError(WITHOUT_TOKENIZER, hint="save its tokenizer with transformers")
    length = min(_TOKENS_MAX, model.config.context_length or _TOKENS_MAX)
    found = tokenize(model.root, _text().split("\n\n\n"), special=True)
    return [[token for token in ids if token < model.config.vocab_size][:length] for ids in found]


def sha256() -> str:
    """The digest of the text, for the manifest."""
    return hashlib.sha256(_text().encode()).hexdigest()


def _text() -> str:
    return resources.files(__package__).joinpath("calibration.txt").read_text(encoding="utf-8")
