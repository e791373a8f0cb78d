"""Byte-level BPE for GGUF: merges, and how text is cut before they apply.

llama.cpp cuts text with one of its built-in expressions, so a tokenizer whose own expression is none of them cannot
be expressed: that is an error, never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from citrate.core.canonical import Json
from citrate.core.errors import FormatError, UnsupportedConversionError
from citrate.formats.configuration import Config
from citrate.formats.vocabulary_tokens import Deviation, Lexicon, TokenizerSource, TokenTable, added_tokens

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

_PRE: Mapping[tuple[str, bool], str] = {
    # (expression, whole words first: ignore_merges) -> llama.cpp's name for the pair
    (_LLAMA3, True): "llama-bpe",
    (_LLAMA3, False): "smaug-bpe",
    (_QWEN2, False): "qwen2",
    (_GPT2, False): "gpt-2",
}


def read(source: TokenizerSource, config: Config) -> Lexicon:
    """The tokens and merges; raises as ``read_vocabulary`` does."""
    document = source.document
    model = document["model"]
    assert isinstance(model, dict)
    table = TokenTable(config.vocab_size)
    table.put_words(model)
    table.put_added(added_tokens(document))
    table.require_distinct()
    cut = pre_tokenizer(document, model)
    return Lexicon("gpt2", tuple(table.tokens), tuple(table.kinds), cut, merges_of(model))


def deviation(document: Mapping[str, Json], _root: Path) -> Deviation | None:
    """llama.cpp normalises nothing: letters written in parts (NFD) stay in parts."""
    return Deviation("letters in parts", {**document, "normalizer": None}) if document.get("normalizer") else None


def merges_of(model: Mapping[str, Json]) -> tuple[str, ...]:
    entries = model.get("merges")
    if not isinstance(entries, list):
        raise FormatError("tokenizer.json has no merges")
    merges: list[str] = []
    for entry in entries:
        pair = entry.split(" ") if isinstance(entry, str) else entry
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(half, str) and half for half in pair):
            raise FormatError(f"tokenizer.json: malformed merge {entry!r:.60}")
        left, right = pair
        merges.append(f"{left} {right}")
    return tuple(merges)


def pre_tokenizer(document: Mapping[str, Json], model: Mapping[str, Json]) -> str:
    """llama.cpp's name of how the tokenizer cuts text before it merges."""
    normalizer = document.get("normalizer")
    if isinstance(normalizer, dict) and normalizer.get("type") != "NFC":
        raise UnsupportedConversionError(f"its tokenizer normalizes text ({normalizer.get('type')!r:.40})")
    expression = _expression(document.get("pre_tokenizer"))
    name = _PRE.get((expression, bool(model.get("ignore_merges"))))
    if name is None:
        raise UnsupportedConversionError(f"llama.cpp has no tokenizer that cuts text by {expression!r:.80}")
    return name


def _expression(entry: Json) -> str:
    steps = entry.get("pretokenizers") if isinstance(entry, dict) and entry.get("type") == "Sequence" else [entry]
    if not isinstance(steps, list) or not 1 <= len(steps) <= 2 or not all(isinstance(step, dict) for step in steps):
        raise UnsupportedConversionError("its tokenizer cuts text in a way that llama.cpp does not")
    *splits, bytes_ = [step for step in steps if isinstance(step, dict)]
    if bytes_.get("type") != "ByteLevel" or bytes_.get("add_prefix_space"):
        raise UnsupportedConversionError("its tokenizer is not byte-level, or puts a space before the text")
    if not splits:
        return _GPT2 if bytes_.get("use_regex", True) else ""
    pattern = splits[0].get("pattern")
    expression = pattern.get("Regex") if isinstance(pattern, dict) else None
    isolated = splits[0].get("type") == "Split" and splits[0].get("behavior") == "Isolated"
    if not isinstance(expression, str) or not isolated or splits[0].get("invert") or bytes_.get("use_regex", True):
        raise UnsupportedConversionError("its tokenizer cuts text in a way that llama.cpp does not")
    return expression
