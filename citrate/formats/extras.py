"""Optional packages, imported where they are needed, by one thread at a time.

While an import fails in one thread, Python lets another see the unfinished module: it would miss a name in it, where
the first rightly misses the package.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from citrate.core.errors import BackendMissingError

_importing = Lock()


@contextmanager
def importing(what: str, extra: str) -> Iterator[None]:
    """Around import statements: whatever they miss is a missing ``extra`` of citrate, for ``what``.

    Raises:
        BackendMissingError: a package is not installed.
    """
    with _importing:
        try:
            yield
        except ModuleNotFoundError as error:
            raise BackendMissingError(f"{what} needs {error.name}", hint=f"pip install 'citrate[{extra}]'") from error
