"""The tokenizer of a GGUF file, made from tokenizer.json.

What llama.cpp cannot express is an error; what it expresses otherwise than expected, ``check`` finds out.

::

    vocabulary_tokens.py    tokens and their kinds, added tokens
    vocabulary_ends.py      special tokens, and which of them stand around a text
    vocabulary_bpe.py       byte-level BPE: merges, and how text is cut first
    vocabulary_spm.py       SentencePiece's BPE with byte fallback: scores, and the space in front
    vocabulary_unigram.py   SentencePiece's unigram: scores, and the table of normalised characters
    vocabulary_wordpiece.py BERT's WordPiece
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from citrate.core.canonical import Json
from citrate.core.errors import UnsupportedConversionError
from citrate.formats import vocabulary_bpe, vocabulary_spm, vocabulary_unigram, vocabulary_wordpiece
from citrate.formats.configuration import Config
from citrate.formats.documents import read_optional
from citrate.formats.gguf_file import GgufValue, Kind, array
from citrate.formats.tokenizer_files import chat_template, tokenizer_document
from citrate.formats.vocabulary_ends import Ends, ends_of
from citrate.formats.vocabulary_tokens import Deviation, Lexicon, TokenizerSource

_SPECIALS = {"bos": "bos", "eos": "eos", "unk": "unknown", "sep": "seperator", "pad": "padding", "mask": "mask"}
"""llama.cpp's own spelling; it has no ``cls``."""
_Reader: TypeAlias = Callable[[TokenizerSource, Config], Lexicon]
_READERS: Mapping[str, _Reader] = {
    "BPE": vocabulary_bpe.read,
    "SentencePiece": vocabulary_spm.read,
    "Unigram": vocabulary_unigram.read,
    "WordPiece": vocabulary_wordpiece.read,
}
_DEVIATIONS: Mapping[str, Callable[[Mapping[str, Json], Path], Deviation | None]] = {
    "BPE": vocabulary_bpe.deviation,
    "SentencePiece": vocabulary_spm.deviation,
    "Unigram": vocabulary_unigram.deviation,
    "WordPiece": vocabulary_wordpiece.deviation,
}


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as GGUF stores it."""

    lexicon: Lexicon
    ends: Ends
    template: str = ""

    def metadata(self) -> dict[str, GgufValue]:
        """The ``tokenizer.*`` keys, in the order in which llama.cpp's converter writes them."""
        words, ends = self.lexicon, self.ends
        keys = dict(words.before)
        keys["tokenizer.ggml.model"] = GgufValue(Kind.STRING, words.model)
        keys["tokenizer.ggml.pre"] = GgufValue(Kind.STRING, words.pre)
        keys["tokenizer.ggml.tokens"] = array(Kind.STRING, words.tokens)
        if words.scores:
            keys["tokenizer.ggml.scores"] = array(Kind.FLOAT32, words.scores)
        keys["tokenizer.ggml.token_type"] = array(Kind.INT32, words.kinds)
        keys |= words.after
        if words.merges:
            keys["tokenizer.ggml.merges"] = array(Kind.STRING, words.merges)
        for name, index in ends.ids.items():
            if name in _SPECIALS:
                keys[f"tokenizer.ggml.{_SPECIALS[name]}_token_id"] = GgufValue(Kind.UINT32, index)
        for name, added in ends.added.items():
            keys[f"tokenizer.ggml.add_{name}_token"] = GgufValue(Kind.BOOL, added)
        if self.template:
            keys["tokenizer.chat_template"] = GgufValue(Kind.STRING, self.template)
        return keys | dict(words.last)


def read_vocabulary(root: Path, config: Config) -> Vocabulary:
    """The tokenizer of the model directory ``root``.

    Raises:
        UnsupportedConversionError: it is of a kind that citrate does not write into GGUF yet.
        FormatError: it is malformed, or has more tokens than the model.
    """
    document = tokenizer_document(root)
    if document is None:
        raise UnsupportedConversionError(
            "the model has no tokenizer.json", hint="save its tokenizer with transformers, then try again"
        )
    kind = _kind(document)
    if kind not in _READERS:
        raise UnsupportedConversionError(f"its tokenizer is a {kind!r:.40}, which citrate does not write into GGUF")
    settings = read_optional(root, "tokenizer_config.json", 4 << 20) or {}
    older = read_optional(root, "special_tokens_map.json", 4 << 20) or {}
    source = TokenizerSource(root, document, {**older, **settings})
    return Vocabulary(_READERS[kind](source, config), ends_of(document, source.settings, config), chat_template(root))


def deviation(root: Path) -> Deviation | None:
    """Where llama.cpp's tokenizer differs from that of the model directory ``root``; None where it does not."""
    document = tokenizer_document(root)
    return _DEVIATIONS[_kind(document)](document, root) if document is not None else None


def _kind(document: Mapping[str, Json]) -> str:
    model = document.get("model")
    kind = model.get("type") if isinstance(model, dict) else None
    if kind == "BPE" and isinstance(model, dict) and model.get("byte_fallback"):
        return "SentencePiece"
    return kind if isinstance(kind, str) else "nothing"
