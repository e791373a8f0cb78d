"""Read JSON files of a model directory, which anybody may have written: bounded, no key twice, no NaN, no infinity."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from citrate.core.canonical import Json
from citrate.core.errors import FormatError, NotFoundError

CONFIG_MAX_BYTES = 1 << 20
INDEX_MAX_BYTES = 32 << 20
TOKENIZER_MAX_BYTES = 64 << 20
ENTRIES_MAX = 20_000
"""Entries of a folder: the largest published models have some hundred shards."""
_VALUES_MAX = 8 << 20
"""Values of one document: each takes some 64 bytes of memory, however short it is written."""


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in ``folder``, sorted by name.

    Raises:
        FormatError: it cannot be read, or holds more than ``ENTRIES_MAX`` entries.
    """
    found: list[os.DirEntry[str]] = []
    try:
        with os.scandir(folder) as listed:
            for entry in listed:
                if len(found) >= ENTRIES_MAX:
                    raise FormatError(
                        f"{folder} has more than {ENTRIES_MAX} entries, which no model has",
                        hint="name the folder that holds the model and nothing else",
                    )
                found.append(entry)
    except OSError as error:
        raise FormatError(f"{folder} cannot be read: {error.strerror}") from error
    return sorted(found, key=lambda entry: entry.name)


def names_in(folder: Path) -> list[str]:
    """The names of ``entries(folder)``; raises as that does."""
    return [entry.name for entry in entries(folder)]


def inside(root: Path, name: str) -> Path:
    """The regular file ``name`` of the model directory ``root``, links followed only where they stay inside it.

    A snapshot in the Hugging Face cache consists of links into its own ``blobs`` folder: those count as inside.

    Raises:
        NotFoundError: there is no such file.
        FormatError: it is not a regular file, or a link that leaves the directory.
    """
    folder = root.resolve()
    try:
        path = (folder / name).resolve(strict=True)
        mode = path.stat().st_mode
    except (OSError, RuntimeError, ValueError) as error:  # ValueError: what no file can be called
        raise NotFoundError(f"no file {name!r:.200} in {root}") from error
    homes = [folder]
    if folder.parent.name == "snapshots":
        homes.append(folder.parent.parent / "blobs")
    if not any(path.is_relative_to(home) for home in homes):
        raise FormatError(f"{name!r} leads outside the model directory", hint="copy the file into the directory")
    if not stat.S_ISREG(mode):
        raise FormatError(f"{name!r} is not a regular file")
    return path


def read_bounded(path: Path, limit: int) -> bytes:
    """The bytes of ``path``.

    Raises:
        FormatError: larger than ``limit`` bytes, or unreadable.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise FormatError(f"{path.name} cannot be read: {error.strerror}") from error
    if len(data) > limit:
        raise FormatError(f"{path.name} is larger than {limit >> 20} MiB")
    return data


def parse_object(data: bytes, name: str) -> dict[str, Json]:
    """Parse a JSON object.

    Raises:
        FormatError: not JSON, not an object, a key twice, NaN or infinity, or nested too deeply.
    """
    document = _parse(data, name)
    if not isinstance(document, dict):
        raise FormatError(f"{name} is not a JSON object")
    return document


def read_object(root: Path, name: str, limit: int = CONFIG_MAX_BYTES) -> dict[str, Json]:
    """The JSON object in file ``name`` of the model directory; raises as ``inside`` and ``parse_object`` do."""
    return parse_object(read_bounded(inside(root, name), limit), name)


def read_array(root: Path, name: str) -> list[Json]:
    """The JSON array in file ``name`` of the model directory; raises as ``read_object`` does."""
    document = _parse(read_bounded(inside(root, name), CONFIG_MAX_BYTES), name)
    if not isinstance(document, list):
        raise FormatError(f"{name} is not a JSON array")
    return document


def read_optional(root: Path, name: str, limit: int = CONFIG_MAX_BYTES) -> dict[str, Json] | None:
    """As ``read_object``, or None where there is no such file."""
    if not (root / name).exists():
        return None
    return read_object(root, name, limit)


def pretty(document: Mapping[str, Json]) -> bytes:
    """The one spelling in which we write JSON for people: sorted keys, two spaces, a newline at the end."""
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    return encoded(text)


def encoded(text: str) -> bytes:
    """``text`` in UTF-8.

    Raises:
        FormatError: it holds half of a surrogate pair, which JSON can spell and UTF-8 cannot.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise FormatError(f"{text[error.start : error.start + 20]!r} is no valid Unicode") from error


def _parse(data: bytes, name: str) -> Json:
    if sum(map(data.count, (b",", b"[", b"{"))) > _VALUES_MAX:
        raise FormatError(f"{name} has more than {_VALUES_MAX} values, which no model's has")
    try:  # decoded here: of bytes, json would guess UTF-16 and UTF-32 too
        document: Json = json.loads(
            data.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{name} is not valid JSON: {error}") from error
    return document


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key stands twice")
    return document


def _finite(text: str) -> float:
    """The number; ``1e999`` would be read as infinity, and written as what no JSON reader takes."""
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is larger than any number")
    return number


def _refuse_constant(text: str) -> Json:
    raise ValueError(f"{text} is not a JSON number")
