"""What a Kubo node may answer to a command: little, soon, and by itself.

``ipfshttpclient`` would take an answer up whole, however long it is, wait for each byte of it, and follow it wherever
it redirects, with all that is sent. So each adapter of its session is put inside one that does none of this. What the
node is silent for before it answers is the client's own timeout.
"""

from __future__ import annotations

import io
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from citrate.core.errors import StoreError

if TYPE_CHECKING:
    import requests
    import urllib3

ANSWER_MAX_BYTES = 64 << 10
"""Commands answer with some lines of JSON, and the client takes time that grows with the square of their number."""
ANSWER_TIMEOUT_S = 300.0
"""From an answer's head to its end: Kubo begins to answer when the work is done."""
_PIECE_BYTES = 16 << 10


class Bounded:
    """An adapter of a requests session around another, for the node ``name``.

    Args:
        inner: what sends, and receives the head.
        name: the node's, for errors.
        hint: what to do about what is no Kubo.
    """

    def __init__(self, inner: requests.adapters.BaseAdapter, name: str, hint: str) -> None:
        self._inner = inner
        self._name = name
        self._hint = hint

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send, and receive the answer whole.

        Raises:
            StoreError: it redirects, is too long, takes too long, or breaks off.
        """
        response = self._inner.send(request, **options)
        try:
            if 300 <= response.status_code < 400:
                raise self._no_kubo(f"it redirects (HTTP {response.status_code})")
            response.raw = io.BytesIO(self._body(response.raw))
        except BaseException:
            response.close()
            raise
        return response

    def _body(self, raw: urllib3.HTTPResponse) -> bytes:
        from urllib3.exceptions import HTTPError

        body, deadline = bytearray(), time.monotonic() + ANSWER_TIMEOUT_S
        ending = threading.Timer(ANSWER_TIMEOUT_S, _end, (raw,))  # a drip of it would never time out
        ending.daemon = True
        ending.start()
        try:
            while piece := raw.read1(_PIECE_BYTES, decode_content=False):
                body += piece
                if len(body) > ANSWER_MAX_BYTES:
                    raise self._no_kubo(f"it answers with more than {ANSWER_MAX_BYTES >> 10} KiB")
        except (HTTPError, OSError) as error:
            if time.monotonic() < deadline:
                raise StoreError(f"Kubo at {self._name} broke off its answer", hint=self._hint) from error
        finally:
            ending.cancel()
        if time.monotonic() >= deadline:
            raise StoreError(f"Kubo at {self._name} did not end its answer", hint=self._hint)
        raw.release_conn()
        return bytes(body)

    def _no_kubo(self, why: str) -> StoreError:
        return StoreError(f"what answers at {self._name} is no Kubo RPC: {why}", hint=self._hint)

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()


def _end(raw: urllib3.HTTPResponse) -> None:
    with suppress(ValueError, OSError):  # it has ended
        raw.shutdown()
