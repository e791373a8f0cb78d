"""SentencePiece's BPE with byte fallback (Llama 2, Mistral) for GGUF: scores, and the space in front.

llama.cpp joins the two neighbours whose joint piece scores best, so scores must fall as merges come later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from citrate.core.canonical import Json
from citrate.core.errors import UnsupportedConversionError
from citrate.formats import vocabulary_bpe
from citrate.formats.configuration import Config
from citrate.formats.gguf_file import GgufValue, Kind
from citrate.formats.sentencepiece_file import read_scores
from citrate.formats.vocabulary_tokens import Deviation, Lexicon, TokenizerSource, TokenKind, TokenTable, added_tokens

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_SPACE = "\u2581"  # how SentencePiece writes a space
_REPLACE: Json = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
_PREPEND: Json = {"type": "Prepend", "prepend": _SPACE}
_DIGITS_MAX = 9  # of an id that a vocabulary can have
_ADDED_SCORE, _UNUSED_SCORE = -1000.0, -10000.0  # what llama.cpp's converter gives them


def read(source: TokenizerSource, config: Config) -> Lexicon:
    """The tokens with scores; raises as ``read_vocabulary`` does."""
    document, settings = source.document, source.settings
    model = document["model"]
    assert isinstance(model, dict)
    table, added = TokenTable(config.vocab_size), added_tokens(document)
    table.put_words(model)
    for index, word in enumerate(table.tokens):
        if _BYTE.fullmatch(word):
            table.kinds[index] = TokenKind.BYTE
    table.put_added(added)
    decoder = settings.get("added_tokens_decoder")
    listed = decoder if isinstance(decoder, dict) else {}
    stated = {int(index) for index in listed if index.isdecimal() and len(index) <= _DIGITS_MAX}
    for token in added:
        if token.content == model.get("unk_token") and token.index not in stated:
            table.kinds[token.index] = TokenKind.UNKNOWN
    table.require_distinct()
    scores = _scores(table, vocabulary_bpe.merges_of(model), read_scores(source.root))
    for token in added:
        if token.index in stated:
            scores[token.index] = _ADDED_SCORE
    space = space_in_front(document)
    explicit = isinstance(settings.get("add_prefix_space"), bool) or not space
    before = {"tokenizer.ggml.add_space_prefix": GgufValue(Kind.BOOL, space)} if explicit else {}
    return Lexicon("llama", tuple(table.tokens), tuple(table.kinds), scores=tuple(scores), before=before)


def _scores(table: TokenTable, merges: Sequence[str], pieces: Sequence[tuple[str, float]]) -> list[float]:
    """A score for every token: SentencePiece's own, where tokenizer.model has the same tokens.

    Else minus its place in the vocabulary, as SentencePiece numbers what it learns; and where the vocabulary is in
    another order than the merges, minus the rank of the first merge that yields the token.
    """
    scores = [_UNUSED_SCORE if kind is TokenKind.UNUSED else 0.0 for kind in table.kinds]
    normal = [index for index, kind in enumerate(table.kinds) if kind is TokenKind.NORMAL]
    own = {index: score for index, (text, score) in enumerate(pieces[: len(scores)]) if table.tokens[index] == text}
    if all(index in own for index in normal):
        return [own.get(index, score) for index, score in enumerate(scores)]
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges, start=1):
        ranks.setdefault(merge.replace(" ", "", 1), rank)
    merged = [ranks[table.tokens[index]] for index in normal if table.tokens[index] in ranks]
    in_order = merged == sorted(merged)
    for index in normal:
        scores[index] = -float(index - normal[0]) if in_order else -float(ranks.get(table.tokens[index], 0))
    return scores


def space_in_front(document: Mapping[str, Json]) -> bool:
    """Whether the tokenizer puts a space before a text.

    Raises:
        UnsupportedConversionError: it treats spaces in a way that llama.cpp does not.
    """
    normalizer, scheme = document.get("normalizer"), _metaspace(document)
    if scheme:
        return scheme != "never"
    if document.get("pre_tokenizer") is None and isinstance(normalizer, dict) and normalizer.get("type") == "Sequence":
        steps = normalizer.get("normalizers")
        if steps in ([_PREPEND, _REPLACE], [_REPLACE]):
            return steps != [_REPLACE]
    raise UnsupportedConversionError("its tokenizer treats spaces in a way that llama.cpp does not")


def deviation(document: Mapping[str, Json], _root: Path) -> Deviation | None:
    """llama.cpp puts the space in front of every text and behind every special token, even where a space stands.

    So did SentencePiece's first port to transformers; tokenizers with the schemes ``first`` and ``always`` leave it
    out where the text has one, and ``first`` also behind special tokens.
    """
    if _metaspace(document) not in ("first", "always"):
        return None
    normalizer: Json = {"type": "Sequence", "normalizers": [_PREPEND, _REPLACE]}
    return Deviation("spaces in front", {**document, "normalizer": normalizer, "pre_tokenizer": None})


def _metaspace(document: Mapping[str, Json]) -> str:
    """When the cutter puts a space in front; empty where it is no Metaspace that leaves text in one piece."""
    cutter = document.get("pre_tokenizer")
    if document.get("normalizer") is not None or not isinstance(cutter, dict) or cutter.get("type") != "Metaspace":
        return ""
    scheme = cutter.get("prepend_scheme")
    plain = cutter.get("replacement") == _SPACE and not cutter.get("split", True)
    return scheme if plain and scheme in ("first", "always", "never") and isinstance(scheme, str) else ""
