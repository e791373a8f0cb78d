"""The child of ``citrate.formats.checks.tokens``: cuts texts by strangers' tokenizers. Run as a module, never imported.

It stands here, and not beside its parent, because importing ``citrate.formats`` would take it four times as long as all
that it does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, cast

from citrate.core.confinement.serving import Request, serve_documents
from citrate.core.errors import BackendMissingError, FormatError

_HINT = "save the tokenizer again with transformers, or do not use this model"


class _Encoding(Protocol):
    ids: list[int]


class _Tokenizer(Protocol):
    def encode(self, text: str, *, add_special_tokens: bool) -> _Encoding: ...

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str: ...


def prepare() -> None:
    """Import the library before looking for files is refused.

    Raises:
        BackendMissingError: it is not installed.
    """
    try:
        import tokenizers  # noqa: F401
    except ModuleNotFoundError as error:
        raise BackendMissingError("comparing tokens needs tokenizers", hint="pip install 'citrate[gguf]'") from error


def answer(request: Request, documents: Sequence[bytes]) -> bytes:
    """A JSON list: of each tokenizer.json in ``documents`` three lists with an entry a text.

    The ids of the text alone; those with what the tokenizer puts around it; and the text that the former read as again,
    special tokens spelled out.

    Raises:
        FormatError: a tokenizer cannot be loaded, or cannot cut a text.
    """
    texts = request["texts"]
    assert isinstance(texts, list)  # our own parent's
    return json.dumps([_cut(_loaded(document), list(map(str, texts))) for document in documents]).encode()


def _cut(tokenizer: _Tokenizer, texts: Sequence[str]) -> tuple[list[list[int]], list[list[int]], list[str]]:
    with _blamed("cannot cut text"):
        plain = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        special = [tokenizer.encode(text, add_special_tokens=True).ids for text in texts]
        return plain, special, [tokenizer.decode(ids, skip_special_tokens=False) for ids in plain]


def _loaded(document: bytes) -> _Tokenizer:
    from tokenizers import Tokenizer

    with _blamed("cannot be loaded"):
        tokenizer = Tokenizer.from_str(document.decode(errors="replace"))
        tokenizer.no_truncation()  # settings of the run it was saved in, not of the tokenizer
        tokenizer.no_padding()
    return cast(_Tokenizer, tokenizer)


@contextmanager
def _blamed(fault: str) -> Iterator[None]:
    """Make whatever the library raises an error of the file; where it panics, that is no ``Exception``."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise FormatError(f"tokenizer.json {fault}: {reason}", hint=_HINT) from error


if __name__ == "__main__":
    sys.exit(serve_documents(answer, prepare))
