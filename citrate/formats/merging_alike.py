"""Whether two models can be merged weight by weight: the same network, over the same tokens."""

from __future__ import annotations

from citrate.core.canonical import Json
from citrate.formats.documents import TOKENIZER_MAX_BYTES, read_bounded
from citrate.formats.dtypes import CONVERTIBLE
from citrate.formats.source import SourceModel
from citrate.formats.tokenizer_files import tokenizer_document

_VOCABULARIES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.txt")
_NUMBERS = ("heads", "kv_heads", "head_dim", "hidden_size", "layers", "vocab_size")


def difference(first: SourceModel, other: SourceModel) -> str:
    """In what two models differ that must not, in half a sentence; empty where they are alike.

    Raises:
        FormatError: a tokenizer cannot be read.
    """
    if first.config.class_name != other.config.class_name:
        return f"one is {first.config.class_name or 'unnamed'}, the other {other.config.class_name or 'unnamed'}"
    for number in _NUMBERS:
        mine, yours = getattr(first.config, number), getattr(other.config, number)
        if mine != yours:
            return f"their {number} is {mine} and {yours}"
    if first.config.rope != other.config.rope:
        return "their rotary angles differ (rope_parameters)"
    return _tensors(first, other) or _tokens(first, other)


def _tensors(first: SourceModel, other: SourceModel) -> str:
    mine = {tensor.name: tensor for tensor in first.tensors}
    yours = {tensor.name: tensor for tensor in other.tensors}
    for name in sorted(mine.keys() ^ yours.keys()):
        return f"only one has {name}"
    for name, tensor in mine.items():
        there = yours[name]
        if tensor.shape != there.shape:
            return f"{name} is {_times(tensor.shape)} in one, {_times(there.shape)} in the other"
        if (tensor.dtype in CONVERTIBLE) != (there.dtype in CONVERTIBLE):
            return f"{name} is {tensor.dtype} in one, {there.dtype} in the other"
    return ""


def _tokens(first: SourceModel, other: SourceModel) -> str:
    documents = [tokenizer_document(model.root) for model in (first, other)]
    if any(documents):
        mine, yours = (_meaning(document) for document in documents)
        return "" if mine == yours else "their tokenizers differ (tokenizer.json)"
    for name in _VOCABULARIES:
        files = [model.root / name for model in (first, other)]
        data = [read_bounded(path, TOKENIZER_MAX_BYTES) if path.exists() else b"" for path in files]
        if data[0] != data[1]:
            return f"their tokenizers differ ({name})"
    return ""


def _meaning(document: object) -> list[Json]:
    """What of tokenizer.json says which number a text becomes."""
    if not isinstance(document, dict):
        return []
    return [document.get(key) for key in ("model", "normalizer", "pre_tokenizer")]


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"
