"""What kind of file a client is told that it gets."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Iterator

from citrate.core.errors import CitrateError

OCTETS = "application/octet-stream"
TEXT = "text/plain; charset=utf-8"
_KNOWN = mimetypes.MimeTypes(filenames=())  # the table that Python brings, not the one of this machine
_OWN = {
    ".bin": OCTETS, ".gguf": OCTETS, ".json": "application/json", ".jinja": TEXT, ".md": TEXT,
    ".safetensors": OCTETS, ".txt": TEXT, ".yaml": TEXT, ".yml": TEXT,
}  # fmt: skip


def by_name(name: str) -> str:
    """The media type that a file's name promises; empty where it promises none."""
    dot, extension = name.rpartition(".")[1:]
    suffix = (dot + extension).lower()
    if suffix in _OWN:
        return _OWN[suffix]
    kind = _KNOWN.types_map[True].get(suffix, "") if dot else ""
    return kind + "; charset=utf-8" if kind.startswith("text/") and kind != "text/html" else kind


def by_content(pieces: Iterator[bytes], size_bytes: int) -> str:
    """The media type of a file without a telling name: JSON, text, or just bytes; never a page.

    Args:
        pieces: the file from its first byte; only the first piece is taken.
        size_bytes: the file's size.
    """
    if not size_bytes:
        return "text/plain"
    try:
        head = next(pieces, b"")
    except CitrateError:  # the first block is not here; what was asked for may be
        return OCTETS
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3 or len(head) == size_bytes:  # else only cut in the middle of a character
            return OCTETS
        text = head[: error.start].decode()
    if any(character < " " and character not in "\t\n\r\f" for character in text):
        return OCTETS
    return "application/json" if len(head) == size_bytes and _is_json(text) else TEXT


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
