"""BERT's WordPiece for GGUF, where a word starts with a space and its other pieces do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from citrate.core.canonical import Json
from citrate.core.errors import FormatError, UnsupportedConversionError
from citrate.formats.configuration import Config
from citrate.formats.families.encoder import segments
from citrate.formats.gguf_file import GgufValue, Kind
from citrate.formats.vocabulary_tokens import Deviation, Lexicon, TokenizerSource, TokenKind, TokenTable, added_tokens

_LIMIT, _TEXT_MAX = "max_input_chars_per_word", 1 << 20
_SPACE, _INSIDE = "\u2581", "##"
_ENDS_WORDS = "[\u000b\u000c\u0085]"
_SYLLABLES, _JAMO, _CONSONANTS, _WITH_EACH = 0xAC00, 0x1100, 19, 588


def read(source: TokenizerSource, config: Config) -> Lexicon:
    """The tokens; raises as ``read_vocabulary`` does."""
    document = source.document
    model, normalizer = document["model"], document.get("normalizer")
    assert isinstance(model, dict)
    if model.get("continuing_subword_prefix", _INSIDE) != _INSIDE:
        raise UnsupportedConversionError("its WordPiece tokenizer does not mark pieces inside a word with ##")
    if not isinstance(normalizer, dict) or normalizer.get("type") != "BertNormalizer":
        raise UnsupportedConversionError("its WordPiece tokenizer does not normalise text as BERT does")
    if not normalizer.get("handle_chinese_chars", True) or not normalizer.get("clean_text", True):
        raise UnsupportedConversionError("its WordPiece tokenizer keeps characters that llama.cpp drops or splits")
    table = TokenTable(config.vocab_size)
    table.put_words(model)
    table.put_added(added_tokens(document))
    tokens = tuple(
        token if kind is TokenKind.CONTROL else _spaced(token)
        for token, kind in zip(table.tokens, table.kinds, strict=True)
    )
    stated = {name: normalizer.get(name) for name in ("lowercase", "strip_accents")}
    last = {
        f"tokenizer.ggml.normalizer.{name}": GgufValue(Kind.BOOL, value)
        for name, value in stated.items()
        if isinstance(value, bool)
    }
    before = {"tokenizer.ggml.token_type_count": GgufValue(Kind.UINT32, segments(config))}
    return Lexicon("bert", tokens, tuple(table.kinds), before=before, last=last)


def deviation(document: Mapping[str, Json], _root: Path) -> Deviation | None:
    """Where llama.cpp normalises and cuts otherwise than BERT's tokenizer.

    It cuts a word of any length, which BERT's calls unknown from a limit on. It ends words at three control characters
    that BERT's drops. And where accents go, all marks go, vowel signs too, and of a Korean syllable all but the first
    consonant: it keeps the first letter of a decomposition.
    """
    model, normalizer = document["model"], document["normalizer"]
    assert isinstance(model, dict) and isinstance(normalizer, dict)
    steps = [_replace(_ENDS_WORDS, " ")]
    strips = normalizer.get("strip_accents")
    if strips or (strips is None and normalizer.get("lowercase", True)):
        steps += [_replace(r"\p{M}", ""), *(_replace(*pair) for pair in _first_consonants())]
    return Deviation(
        f"vowel signs, Korean syllables and words of over {_longest(model)} characters",
        {
            **document,
            "model": {**model, _LIMIT: _TEXT_MAX},
            "normalizer": {"type": "Sequence", "normalizers": [*steps, normalizer]},
        },
    )


def _longest(model: Mapping[str, Json]) -> int:
    """The characters of the longest word that BERT's tokenizer cuts."""
    limit = model.get(_LIMIT, 100)
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 < limit < _TEXT_MAX:
        raise FormatError(f"tokenizer.json: {_LIMIT} = {limit!r:.40} is not credible")
    return limit


def _replace(expression: str, content: str) -> Json:
    return {"type": "Replace", "pattern": {"Regex": expression}, "content": content}


def _first_consonants() -> Iterator[tuple[str, str]]:
    """Hangul's syllables are ordered by their first consonant (Unicode 16, section 3.12)."""
    for index in range(_CONSONANTS):
        first = _SYLLABLES + index * _WITH_EACH
        yield f"[{chr(first)}-{chr(first + _WITH_EACH - 1)}]", chr(_JAMO + index)


def _spaced(token: str) -> str:
    return token.removeprefix(_INSIDE) if token.startswith(_INSIDE) else _SPACE + token
