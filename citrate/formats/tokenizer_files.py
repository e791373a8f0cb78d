"""What kind of tokenizer a model directory has, and its chat template. Read only; nothing is rendered."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from citrate.core.canonical import Json
from citrate.core.errors import FormatError
from citrate.formats.documents import TOKENIZER_MAX_BYTES, encoded, inside, read_bounded, read_optional

_TEMPLATE_MAX_BYTES = 1 << 20


def tokenizer_document(root: Path) -> Mapping[str, Json] | None:
    """tokenizer.json, parsed; None where the model has none."""
    return read_optional(root, "tokenizer.json", TOKENIZER_MAX_BYTES)


def tokenizer_kind(root: Path) -> str:
    """``BPE``, ``Unigram``, ``WordPiece``, ...; ``SentencePiece`` where only a .model file exists; empty for none."""
    document = tokenizer_document(root)
    if document is not None:
        model = document.get("model")
        kind = model.get("type") if isinstance(model, dict) else None
        return kind if isinstance(kind, str) else "unknown"
    for name in ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model"):
        if (root / name).exists():
            return "SentencePiece"
    return "WordPiece" if (root / "vocab.txt").exists() else ""


def chat_template(root: Path) -> str:
    """The model's default chat template; empty where it has none.

    Raises:
        FormatError: it is larger than 1 MiB, or its file is malformed.
    """
    if (root / "chat_template.jinja").exists():
        return read_bounded(inside(root, "chat_template.jinja"), _TEMPLATE_MAX_BYTES).decode(errors="replace")
    for name in ("chat_template.json", "tokenizer_config.json"):
        document = read_optional(root, name, 4 << 20) or {}
        template = _default(document.get("chat_template"))
        if len(template) > _TEMPLATE_MAX_BYTES:
            raise FormatError(f"{name}: a chat template of more than 1 MiB is not credible")
        if template:
            return template
    return ""


def chat_template_sha256(template: str) -> str:
    """The hash by which a template is compared; empty for no template.

    Raises:
        FormatError: it holds half of a surrogate pair.
    """
    return hashlib.sha256(encoded(template)).hexdigest() if template else ""


def _default(value: Json) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        for entry in value:
            if isinstance(entry, dict) and entry.get("name") == "default" and isinstance(entry.get("template"), str):
                return str(entry["template"])
    return ""
