"""SentencePiece's unigram (XLM-RoBERTa) for GGUF: scores, the table of normalised characters, spaces merged."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path

from citrate.core.canonical import Json
from citrate.core.errors import FormatError, UnsupportedConversionError
from citrate.formats.configuration import Config
from citrate.formats.families.encoder import segments
from citrate.formats.gguf_file import GgufValue, Kind, array
from citrate.formats.sentencepiece_file import UNIGRAM_NAME, SentencePiece, read_sentencepiece
from citrate.formats.vocabulary_tokens import (
    Deviation,
    Lexicon,
    TokenizerSource,
    TokenKind,
    TokenTable,
    added_tokens,
    token_id,
)

_SPACE = "\u2581"
_MERGED_SPACES: list[Json] = [
    {"type": "Replace", "pattern": {"Regex": "^ +| +$"}, "content": ""},
    {"type": "Replace", "pattern": {"Regex": " +"}, "content": " "},
]
_UNUSED_SCORE = -10000.0  # what llama.cpp's converter gives them
_FIRST = (
    ("<s>", TokenKind.CONTROL),
    ("<pad>", TokenKind.CONTROL),
    ("</s>", TokenKind.CONTROL),
    ("<unk>", TokenKind.UNKNOWN),
)
_KINDS = frozenset(TokenKind)
_IDS_MAX = 1 << 22
_SHOWN_MAX = 3
_SCORE_MAX = 1e30  # a float32 holds it


def read(source: TokenizerSource, config: Config) -> Lexicon:
    """The tokens with scores; raises as ``read_vocabulary`` does.

    Where SentencePiece's own file lies beside tokenizer.json, they are that file's, as llama.cpp's converter has it.
    """
    document = source.document
    model = document["model"]
    assert isinstance(model, dict)
    if model.get("byte_fallback"):
        raise UnsupportedConversionError("its unigram tokenizer falls back to bytes")
    _require_merged_spaces(document)
    own = read_sentencepiece(source.root, UNIGRAM_NAME)
    if own is not None:
        return _own(own, config)
    table, added = TokenTable(config.vocab_size), added_tokens(document, spaces_merge=True)
    scores = [_UNUSED_SCORE] * config.vocab_size
    for index, (piece, score) in enumerate(_pieces(model)):
        table.put(index, piece, TokenKind.NORMAL)
        scores[index] = score
    table.put_added(added)
    table.kinds[token_id(model.get("unk_id"), len(table.kinds))] = TokenKind.UNKNOWN
    charsmap = _charsmap(document.get("normalizer"))
    return _lexicon(table, scores, SentencePiece((), charsmap), config)


def _own(own: SentencePiece, config: Config) -> Lexicon:
    """SentencePiece's own pieces: its first three give way to the four that XLM-RoBERTa begins with, so that the others
    move up by one. What transformers adds behind them, ``<mask>``, the file does not have."""
    table = TokenTable(config.vocab_size)
    scores = [0.0] * len(_FIRST) + [_UNUSED_SCORE] * (config.vocab_size - len(_FIRST))
    for index in range(len(_FIRST), config.vocab_size):
        table.tokens[index] = _unused(index - 1)
    for index, (token, kind) in enumerate(_FIRST):
        table.put(index, token, kind)
    for index, piece in enumerate(own.pieces[len(_FIRST) - 1 :], start=len(_FIRST)):
        if piece.kind not in _KINDS:
            raise FormatError(f"{UNIGRAM_NAME}: a piece of an unknown kind, {piece.kind}")
        table.put(index, piece.text, TokenKind(piece.kind))
        scores[index] = piece.score
    return _lexicon(table, scores, own, config)


def _lexicon(table: TokenTable, scores: Sequence[float], rules: SentencePiece, config: Config) -> Lexicon:
    table.require_distinct()
    after = {
        "tokenizer.ggml.add_space_prefix": GgufValue(Kind.BOOL, rules.space_in_front),
        "tokenizer.ggml.token_type_count": GgufValue(Kind.UINT32, segments(config)),
        "tokenizer.ggml.remove_extra_whitespaces": GgufValue(Kind.BOOL, rules.merges_spaces),
    }
    if rules.charsmap:
        after["tokenizer.ggml.precompiled_charsmap"] = array(Kind.UINT8, tuple(rules.charsmap))
    return Lexicon("t5", tuple(table.tokens), tuple(table.kinds), scores=tuple(scores), after=after)


def deviation(document: Mapping[str, Json], root: Path) -> Deviation | None:
    """Where llama.cpp does what SentencePiece does, and tokenizer.json only nearly so.

    SentencePiece looks up the longest run of characters in its table of normalised ones; the tokenizers library only
    whole graphemes of up to five bytes, so that it leaves most letters in parts that the table would compose: NFC first
    comes to the same. And it ends words at every white space, where SentencePiece knows those of its table. Tokens that
    transformers adds are missing where SentencePiece's own file was read.
    """
    own = read_sentencepiece(root, UNIGRAM_NAME)
    known = len(own.pieces) + 1 if own else None
    changed, missing = _without_added(document, known) if known else (document, [])
    normalizer, cutter = document.get("normalizer"), document["pre_tokenizer"]
    assert isinstance(cutter, dict) and isinstance(cutter["pretokenizers"], list)
    what = []
    if isinstance(normalizer, dict):
        composed: Json = {"type": "Sequence", "normalizers": [{"type": "NFC"}, normalizer, *_MERGED_SPACES]}
        changed = {**changed, "normalizer": composed, "pre_tokenizer": cutter["pretokenizers"][-1]}
        what.append("letters in parts and rare spaces")
    what += missing
    return Deviation(", ".join(what), changed) if what else None


def _without_added(document: Mapping[str, Json], known: int) -> tuple[Mapping[str, Json], list[str]]:
    """A tokenizer.json without the tokens from ``known`` on, and their names."""
    model, added = document["model"], document.get("added_tokens")
    assert isinstance(model, dict)
    pieces = _pieces(model)
    vocabulary: list[Json] = [[piece, score] for piece, score in pieces[:known]]
    vocabulary += [[_unused(index - 1), _UNUSED_SCORE] for index in range(known, len(pieces))]
    entries = [entry for entry in added if isinstance(entry, dict)] if isinstance(added, list) else []
    kept: list[Json] = [entry for entry in entries if token_id(entry.get("id"), _IDS_MAX) < known]
    left_out = [str(entry.get("content"))[:20] for entry in entries if token_id(entry.get("id"), _IDS_MAX) >= known]
    return {**document, "model": {**model, "vocab": vocabulary}, "added_tokens": kept}, left_out[:_SHOWN_MAX]


def _unused(index: int) -> str:
    return f"[PAD{index}]"


def _pieces(model: Mapping[str, Json]) -> list[tuple[str, float]]:
    entries = model.get("vocab")
    if not isinstance(entries, list):
        raise FormatError("tokenizer.json has no vocabulary")
    pieces: list[tuple[str, float]] = []
    for entry in entries:
        if not isinstance(entry, list) or len(entry) != 2:
            raise FormatError(f"tokenizer.json: malformed piece {entry!r:.60}")
        piece, score = entry
        known = isinstance(score, int | float) and not isinstance(score, bool) and abs(score) <= _SCORE_MAX
        if not isinstance(piece, str) or not isinstance(score, int | float) or not known:
            raise FormatError(f"tokenizer.json: malformed piece {entry!r:.60}")
        pieces.append((piece, float(score)))
    return pieces


def _require_merged_spaces(document: Mapping[str, Json]) -> None:
    """Words are cut at spaces and each gets one in front: what llama.cpp does when it merges spaces."""
    cutter = document.get("pre_tokenizer")
    steps = cutter.get("pretokenizers") if isinstance(cutter, dict) and cutter.get("type") == "Sequence" else None
    kinds = [step.get("type") for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    last = steps[-1] if isinstance(steps, list) and steps else None
    if kinds == ["WhitespaceSplit", "Metaspace"] and isinstance(last, dict):
        always = last.get("prepend_scheme", "always") == "always" and last.get("add_prefix_space", True)
        if last.get("replacement") == _SPACE and always:
            return
    raise UnsupportedConversionError("its tokenizer treats spaces in a way that llama.cpp does not")


def _charsmap(normalizer: Json) -> bytes:
    """SentencePiece's compiled table of normalised characters; empty where text is not normalised."""
    if normalizer is None:
        return b""
    encoded = normalizer.get("precompiled_charsmap") if isinstance(normalizer, dict) else None
    if not isinstance(normalizer, dict) or normalizer.get("type") != "Precompiled" or not isinstance(encoded, str):
        raise UnsupportedConversionError("its tokenizer normalises text in a way that llama.cpp does not")
    try:
        table = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise FormatError(f"tokenizer.json: precompiled_charsmap is not base64: {error}") from error
    size = int.from_bytes(table[:4], "little")
    if len(table) < 8 or size % 4 or size + 4 >= len(table) or table[-1]:
        raise FormatError("tokenizer.json: precompiled_charsmap is malformed")
    return table
