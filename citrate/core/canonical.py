"""Canonical JSON (RFC 8785): the bytes that are hashed, signed and stored for a document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeAlias

import rfc8785

from citrate.core.errors import FormatError

Json: TypeAlias = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


def dumps(document: Mapping[str, object]) -> bytes:
    """Encode a document of strings, integers, booleans, lists and objects.

    Raises:
        FormatError: a float (documents hold none, so that equal input gives equal bytes), an integer past 2^53, or
            nested too deeply.
    """
    try:
        _refuse_floats(document)
        return rfc8785.dumps(document)  # type: ignore[arg-type]  # rfc8785 types its input as an invariant dict
    except RecursionError as error:
        raise FormatError("nested too deeply to be written as canonical JSON") from error
    except rfc8785.CanonicalizationError as error:
        raise FormatError(f"cannot be written as canonical JSON: {error}") from error


def loads(data: bytes) -> dict[str, Json]:
    """Decode a JSON object, refusing duplicate keys and bytes that are not in canonical form.

    Raises:
        FormatError: not JSON, not an object, a key twice, or not canonical.
    """
    try:
        document = json.loads(data, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not a JSON document: {error}") from error
    if not isinstance(document, dict):
        raise FormatError("not a JSON object")
    if dumps(document) != data:
        raise FormatError("JSON is not in canonical form (RFC 8785)")
    return document


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("duplicate key")
    return document


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        raise FormatError(f"raw float {value!r} in a canonical document")
    if isinstance(value, Mapping):
        for item in value.values():
            _refuse_floats(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_floats(item)
