"""The tokenizer of a model directory: the truth that every conversion's tokenizer is compared with.

It is a stranger's: the library that runs it can be made to panic, to compute for hours and to take any amount of memory
by what stands in tokenizer.json. So it runs in a child behind walls, which takes all texts, and all tokenizers that are
compared with each other, in one request.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from citrate.core.canonical import Json
from citrate.core.confinement.child import Limits, ask
from citrate.core.errors import FormatError, UnavailableError
from citrate.formats.documents import TOKENIZER_MAX_BYTES, inside, read_bounded

_CHILD = "citrate.core.confinement.tokenizing_process"
_NAME = "tokenizer.json"
SECONDS = 60
"""Of processor time for a request; the largest published tokenizers load in three, and cut a megabyte in one."""
_WALL_S = 600.0
"""A machine so busy that a minute of work takes longer has other troubles."""
_MEMORY_BYTES = 1 << 30
_MEMORY_SHARE = 48
"""Bytes of memory for a byte of tokenizer.json: words, merges and the tables made of them."""
_ANSWER_BYTES = 64 << 20
_ANSWER_SHARE = 32
"""Bytes of JSON for a character of text: its ids, twice, and what they read as again."""
_REMEMBERED_MAX = 12
_REMEMBERED_CHARS = 1 << 20
"""What is evaluated and compared is tokenised again and again; texts of a user's may be long."""
_HINT = "do not use this tokenizer"

_Key: TypeAlias = tuple[str, tuple[str, ...]]


@dataclass(frozen=True)
class Tokenized:
    """What a tokenizer makes of some texts, one entry a text."""

    plain: list[list[int]]
    """Token ids of the text alone."""
    special: list[list[int]]
    """With what the tokenizer puts around a text."""
    decoded: list[str]
    """The text that ``plain`` reads as again, special tokens spelled out."""


_remembered: OrderedDict[_Key, Tokenized] = OrderedDict()
"""By the hash of tokenizer.json and the texts: the variants of a model pass its tokenizer on as it is."""


def has_tokenizer(root: Path) -> bool:
    """Whether the directory has a tokenizer that can be compared."""
    return (root / _NAME).exists()


def tokenize(root: Path, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
    """Token ids of ``texts``; with ``special``, what the tokenizer puts around a text too.

    Raises:
        FormatError: tokenizer.json is malformed, makes its reader crash, or takes too long or too much.
        BackendMissingError: the package tokenizers is not installed.
        UnavailableError: this platform has no sandbox.
    """
    found = tokenized(root, texts)
    return found.special if special else found.plain


def tokenized(root: Path, texts: Sequence[str]) -> Tokenized:
    """All that the tokenizer of a model directory makes of ``texts``; raises as ``tokenize`` does."""
    (found,) = tokenized_by([_document(root)], texts)
    return found


def tokenized_beside(root: Path, other: Mapping[str, Json], texts: Sequence[str]) -> tuple[Tokenized, Tokenized]:
    """As ``tokenized``, and what another tokenizer.json makes of the same texts."""
    found, beside = tokenized_by([_document(root), json.dumps(other).encode()], texts)
    return found, beside


def tokenized_by(documents: Sequence[bytes], texts: Sequence[str]) -> list[Tokenized]:
    """What each tokenizer.json makes of ``texts``; raises as ``tokenize`` does."""
    lines = tuple(texts)
    keys = [(hashlib.sha256(document).hexdigest(), lines) for document in documents]
    found = {key: known for key in keys if (known := _remembered.get(key))}  # one look: other threads forget
    new = {key: document for key, document in zip(keys, documents, strict=True) if key not in found}
    if new:
        said = _asked(list(new.values()), texts)
        found |= {key: believed(parts, len(texts), _NAME) for key, parts in zip(new, said, strict=True)}
    if sum(map(len, lines)) <= _REMEMBERED_CHARS:
        _remembered.update(found)
        while len(_remembered) > _REMEMBERED_MAX:
            _remembered.popitem(last=False)
    return [found[key] for key in keys]


def _document(root: Path) -> bytes:
    return read_bounded(inside(root, _NAME), TOKENIZER_MAX_BYTES)


def _asked(documents: Sequence[bytes], texts: Sequence[str]) -> list[Json]:
    """What the child says of each document; all that is known of it is that it is one entry a document."""
    limits = Limits(
        memory_bytes=_MEMORY_BYTES + _MEMORY_SHARE * sum(map(len, documents)),
        seconds=_WALL_S,
        answer_bytes=len(documents) * (_ANSWER_BYTES + _ANSWER_SHARE * sum(map(len, texts))),
        processor_seconds=SECONDS,
    )
    request: dict[str, Json] = {"texts": list(texts)}
    try:
        said = json.loads(ask(_CHILD, request, [], limits, what=_NAME, memory_hint=_HINT, documents=documents))
    except UnavailableError as error:
        if error.hint != _HINT:
            raise
        raise FormatError(f"{_NAME} takes more memory than a tokenizer may", hint=_HINT) from error
    except (ValueError, RecursionError) as error:
        raise nonsense(_NAME) from error
    if not isinstance(said, list) or len(said) != len(documents):
        raise nonsense(_NAME)
    return said


def believed(said: Json, count: int, what: str) -> Tokenized:
    """What a child says of ``count`` texts, if it is of the right shape.

    Args:
        said: as JSON.
        count: of the texts.
        what: the file that the child has read, for the message.

    Raises:
        FormatError: it is not.
    """
    parts = said if isinstance(said, list) and len(said) == 3 else [None] * 3
    plain, special, decoded = parts
    texts = [text for text in decoded if isinstance(text, str)] if isinstance(decoded, list) else []
    if len(texts) != count:
        raise nonsense(what)
    return Tokenized(_ids(plain, count, what), _ids(special, count, what), texts)


def nonsense(what: str) -> FormatError:
    """The error to tell where a child's answer cannot be believed."""
    return FormatError(f"{what} makes its reader answer nonsense", hint=_HINT)


def _ids(said: Json, count: int, what: str) -> list[list[int]]:
    if not isinstance(said, list) or len(said) != count:
        raise nonsense(what)
    return [_line(line, what) for line in said]


def _line(said: Json, what: str) -> list[int]:
    ids = [token for token in said if isinstance(token, int) and token >= 0] if isinstance(said, list) else []
    if not isinstance(said, list) or len(ids) != len(said):
        raise nonsense(what)
    return ids
