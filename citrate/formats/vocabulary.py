"""The tokenizer of a GGUF file, made from tokenizer.json: tokens, their kinds, and what follows from the kind of BPE.

What llama.cpp cannot express is an error; what it expresses otherwise than expected, ``check`` finds out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from citrate.core.canonical import Json
from citrate.core.errors import FormatError, UnsupportedConversionError
from citrate.formats import vocabulary_bpe, vocabulary_spm
from citrate.formats.configuration import Config
from citrate.formats.documents import read_optional
from citrate.formats.gguf_file import GgufValue, Kind, array
from citrate.formats.tokenizer_files import chat_template, tokenizer_document

_SPECIALS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_GGUF_SPECIALS = {"unk": "unknown", "sep": "seperator"}  # llama.cpp's own spelling
_VOCABULARY_MAX = 1 << 22


class TokenKind(IntEnum):
    """llama.cpp's kinds of tokens."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as GGUF stores it: byte-level BPE with merges (``gpt2``) or SentencePiece with scores (``llama``)."""

    model: str
    pre: str
    """llama.cpp's name of how text is cut first."""
    tokens: tuple[str, ...]
    kinds: tuple[TokenKind, ...]
    merges: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    space_in_front: bool | None = None
    """Whether a space is put before a text; None where the question does not arise."""
    specials: Mapping[str, int] = field(default_factory=dict)
    """``bos`` -> token id, ..."""
    add_bos: bool = False
    add_eos: bool = False
    template: str = ""

    def metadata(self) -> dict[str, GgufValue]:
        """The ``tokenizer.*`` keys."""
        keys: dict[str, GgufValue] = {
            "tokenizer.ggml.model": GgufValue(Kind.STRING, self.model),
            "tokenizer.ggml.pre": GgufValue(Kind.STRING, self.pre),
            "tokenizer.ggml.tokens": array(Kind.STRING, self.tokens),
        }
        if self.scores:
            keys["tokenizer.ggml.scores"] = array(Kind.FLOAT32, self.scores)
        keys["tokenizer.ggml.token_type"] = array(Kind.INT32, self.kinds)
        if self.merges:
            keys["tokenizer.ggml.merges"] = array(Kind.STRING, self.merges)
        for name in _SPECIALS:
            if name in self.specials:
                key = f"tokenizer.ggml.{_GGUF_SPECIALS.get(name, name)}_token_id"
                keys[key] = GgufValue(Kind.UINT32, self.specials[name])
        keys["tokenizer.ggml.add_bos_token"] = GgufValue(Kind.BOOL, self.add_bos)
        keys["tokenizer.ggml.add_eos_token"] = GgufValue(Kind.BOOL, self.add_eos)
        if self.space_in_front is not None:
            keys["tokenizer.ggml.add_space_prefix"] = GgufValue(Kind.BOOL, self.space_in_front)
        if self.template:
            keys["tokenizer.chat_template"] = GgufValue(Kind.STRING, self.template)
        return keys


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
    model = document.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE":
        raise UnsupportedConversionError("its tokenizer is not a BPE")
    tokens, kinds = _tokens(document, model, config.vocab_size)
    specials = _specials(root, config, tokens)
    first, last = _template_ends(document)
    merges, fallback = vocabulary_bpe.merges_of(model), bool(model.get("byte_fallback"))
    return Vocabulary(
        model="llama" if fallback else "gpt2",
        pre="default" if fallback else vocabulary_bpe.pre_tokenizer(document, model),
        tokens=tokens,
        kinds=kinds,
        merges=() if fallback else merges,
        scores=vocabulary_spm.scores_of(tokens, merges) if fallback else (),
        space_in_front=vocabulary_spm.space_in_front(document) if fallback else None,
        specials=specials,
        add_bos=first is not None and first == _token_at(tokens, specials.get("bos")),
        add_eos=last is not None and last == _token_at(tokens, specials.get("eos")),
        template=chat_template(root),
    )


def _tokens(
    document: Mapping[str, Json], model: Mapping[str, Json], size: int
) -> tuple[tuple[str, ...], tuple[TokenKind, ...]]:
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict) or not 0 < size <= _VOCABULARY_MAX:
        raise FormatError("tokenizer.json has no vocabulary")
    tokens = [f"[PAD{i}]" for i in range(size)]
    kinds = [TokenKind.UNUSED] * size
    for token, index in vocabulary.items():
        tokens[_index(index, size)] = token
        is_byte = model.get("byte_fallback") and vocabulary_spm.BYTE.fullmatch(token)
        kinds[_index(index, size)] = TokenKind.BYTE if is_byte else TokenKind.NORMAL
    added = document.get("added_tokens") or []
    if not isinstance(added, list):
        raise FormatError("tokenizer.json: added_tokens must be a list")
    for entry in added:
        content = entry.get("content") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(content, str):
            raise FormatError("tokenizer.json: malformed added token")
        if entry.get("lstrip") or entry.get("rstrip") or entry.get("single_word"):
            raise UnsupportedConversionError(f"its token {content!r:.40} swallows spaces, which GGUF cannot express")
        index = _index(entry.get("id"), size)
        special = bool(entry.get("special")) or (content.startswith("<|") and content.endswith("|>"))
        kinds[index] = TokenKind.CONTROL if special else TokenKind.USER_DEFINED
        if content == model.get("unk_token"):
            kinds[index] = TokenKind.UNKNOWN
        tokens[index] = content if special else vocabulary_spm.readable_spaces(content)
    if len(set(tokens)) != size:
        raise FormatError("tokenizer.json: two ids have the same token")
    return tuple(tokens), tuple(kinds)


def _index(value: Json, size: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < size:
        raise FormatError(
            f"tokenizer.json: token id {value!r:.40} is not below the model's vocab_size {size}",
            hint="tokenizer and config.json do not belong together",
        )
    return value


def _template_ends(document: Mapping[str, Json]) -> tuple[str | None, str | None]:
    """The special tokens that the tokenizer puts before and after a text."""
    processor = document.get("post_processor")
    steps = processor.get("processors") if isinstance(processor, dict) and processor.get("type") == "Sequence" else None
    for step in steps if isinstance(steps, list) else [processor]:
        if isinstance(step, dict) and step.get("type") == "TemplateProcessing":
            single = step.get("single")
            if isinstance(single, list) and single:
                return _special(single[0]), _special(single[-1])
    return None, None


def _special(piece: Json) -> str | None:
    token = piece.get("SpecialToken") if isinstance(piece, dict) else None
    content = token.get("id") if isinstance(token, dict) else None
    return content if isinstance(content, str) else None


def _specials(root: Path, config: Config, tokens: tuple[str, ...]) -> dict[str, int]:
    """Ids of the special tokens: the tokenizer's word first, then config.json's."""
    ids = {token: index for index, token in enumerate(tokens)}
    settings = read_optional(root, "tokenizer_config.json", 4 << 20) or {}
    older = read_optional(root, "special_tokens_map.json", 4 << 20) or {}
    specials: dict[str, int] = {}
    for name in _SPECIALS:
        key = f"{name}_token"
        stated = settings.get(key) or older.get(key)
        content = stated.get("content") if isinstance(stated, dict) else stated
        if isinstance(content, str) and content in ids:
            specials[name] = ids[content]
            continue
        index = config.document.get(f"{key}_id")
        index = index[0] if isinstance(index, list) and index else index
        if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(tokens):
            specials[name] = index
    return specials


def _token_at(tokens: tuple[str, ...], index: int | None) -> str | None:
    return None if index is None else tokens[index]
