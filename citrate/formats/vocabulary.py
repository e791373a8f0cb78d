"""The tokenizer of a GGUF file, made from tokenizer.json: tokens, their kinds, merges, and how text is cut first.

Byte-level BPE only, for now. llama.cpp cuts text with one of its built-in expressions, so a tokenizer whose own
expression is none of them cannot be expressed: that is an error, never a guess. ``check`` compares the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from citrate.core.canonical import Json
from citrate.core.errors import FormatError, UnsupportedConversionError
from citrate.formats.configuration import Config
from citrate.formats.documents import read_optional
from citrate.formats.gguf_file import GgufValue, Kind, array
from citrate.formats.tokenizer_files import chat_template, tokenizer_document

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

_SPECIALS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_GGUF_SPECIALS = {"unk": "unknown", "sep": "seperator"}  # llama.cpp's own spelling
_VOCABULARY_MAX = 1 << 22


class TokenKind(IntEnum):
    """llama.cpp's kinds of tokens."""

    NORMAL = 1
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5


@dataclass(frozen=True)
class Vocabulary:
    """A byte-level BPE tokenizer as GGUF stores it."""

    pre: str
    tokens: tuple[str, ...]
    kinds: tuple[TokenKind, ...]
    merges: tuple[str, ...]
    specials: Mapping[str, int] = field(default_factory=dict)
    """``bos`` -> token id, ..."""
    add_bos: bool = False
    add_eos: bool = False
    template: str = ""

    def metadata(self) -> dict[str, GgufValue]:
        """The ``tokenizer.*`` keys."""
        keys: dict[str, GgufValue] = {
            "tokenizer.ggml.model": GgufValue(Kind.STRING, "gpt2"),
            "tokenizer.ggml.pre": GgufValue(Kind.STRING, self.pre),
            "tokenizer.ggml.tokens": array(Kind.STRING, self.tokens),
            "tokenizer.ggml.token_type": array(Kind.INT32, self.kinds),
            "tokenizer.ggml.merges": array(Kind.STRING, self.merges),
        }
        for name in _SPECIALS:
            if name in self.specials:
                key = f"tokenizer.ggml.{_GGUF_SPECIALS.get(name, name)}_token_id"
                keys[key] = GgufValue(Kind.UINT32, self.specials[name])
        keys["tokenizer.ggml.add_bos_token"] = GgufValue(Kind.BOOL, self.add_bos)
        keys["tokenizer.ggml.add_eos_token"] = GgufValue(Kind.BOOL, self.add_eos)
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
    if not isinstance(model, dict) or model.get("type") != "BPE" or model.get("byte_fallback"):
        raise UnsupportedConversionError("its tokenizer is not a byte-level BPE")
    tokens, kinds = _tokens(document, model, config.vocab_size)
    specials = _specials(root, config, tokens)
    first, last = _template_ends(document)
    return Vocabulary(
        pre=_pre(document, model),
        tokens=tokens,
        kinds=kinds,
        merges=_merges(model),
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
        kinds[_index(index, size)] = TokenKind.NORMAL
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
        tokens[index] = content
        special = bool(entry.get("special")) or (content.startswith("<|") and content.endswith("|>"))
        kinds[index] = TokenKind.CONTROL if special else TokenKind.USER_DEFINED
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


def _merges(model: Mapping[str, Json]) -> tuple[str, ...]:
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


def _pre(document: Mapping[str, Json], model: Mapping[str, Json]) -> str:
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
