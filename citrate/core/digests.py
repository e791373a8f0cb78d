"""The digest of a directory, such that coreutils alone can check it, and the paths it may hold."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable

from citrate.core.errors import FormatError
from citrate.core.records import FileEntry

_STEPS = frozenset(("", ".", ".."))


def check_path(path: str) -> str:
    """Return ``path`` if it is a safe relative file path inside an artifact.

    Raises:
        FormatError: absolute, empty, ``.``/``..`` components, a backslash or a control character.
    """
    if not _STEPS.isdisjoint(path.split("/")):
        raise FormatError(f"unsafe path {path!r}: absolute, or with an empty, '.' or '..' part")
    plain = path.isascii() and path.isprintable()  # nearly all are; looking at each character is what takes long
    if "\\" in path or not (plain or all(unicodedata.category(c) not in ("Cc", "Cs") for c in path)):
        raise FormatError(
            f"unsafe path {path!r}: backslash or control character",
            hint="rename or remove that file: no artifact has it",
        )
    return path


def listing_sha256(files: Iterable[FileEntry]) -> str:
    r"""The SHA-256 of what ``LC_ALL=C sha256sum`` prints for ``files`` in byte order: ``<hex>  <path>\n``."""
    lines = sorted((check_path(f.path).encode(), f.sha256.encode()) for f in files)
    return hashlib.sha256(b"".join(sha + b"  " + path + b"\n" for path, sha in lines)).hexdigest()
