"""Where a source redirects to, and nobody may follow."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def elsewhere() -> Iterator[str]:
    """The URL of a server to which nobody comes.

    Raises:
        AssertionError: somebody came.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/latest"
        listener.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            listener.accept()
            raise AssertionError("a redirect was followed")
