"""A Kubo node through ``ipfshttpclient``, the only module that imports it.

``ipfshttpclient.connect`` refuses every Kubo since 0.8 by its version; its ``Client`` works. What that lacks
(``dag/import``) goes over the client's own session. Its answers are bounded (``kubo_answers``); blocks and files are
read past it (``sources.kubo``).
"""

from __future__ import annotations

import contextlib
import urllib.parse
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citrate.core.errors import ConfigError, IntegrityError, NotFoundError, StoreError
from citrate.core.sink import Progress
from citrate.registry.dag import CHUNK_BYTES, WIDTH
from citrate.registry.kubo_answers import Bounded
from citrate.registry.store import Store

if TYPE_CHECKING:
    import ipfshttpclient

TIMEOUT_S = 30.0
IMPORT_TIMEOUT_S = 600.0
"""How long Kubo may take to store and pin what was sent, after the last byte."""

_HINT = "start it (ipfs daemon), or set kubo_api to its address, for example /ip4/127.0.0.1/tcp/5001"
_ADDRESS_HINT = "for example /ip4/127.0.0.1/tcp/5001 or http://127.0.0.1:5001"
_NOT_ITS_SHAPE = (AssertionError, AttributeError, KeyError, RecursionError, TypeError, ValueError)
"""What the client library, and reading what it returns, end with where an answer is JSON of another kind."""
_LOG_HINT = "see the node's log"
_WORDS_MAX_CHARS = 500
"""What is repeated of a node's own words."""
_IMPORT_OPTIONS = {"pin-roots": "true", "stats": "true"}
_ABSENT = ("could not find", "not found", "no link named")


class Kubo:
    """One node, by multiaddr (``/ip4/127.0.0.1/tcp/5001``) or URL (``http://127.0.0.1:5001``). Connects when used."""

    def __init__(self, api: str) -> None:
        self.name = api
        self._address = _multiaddr(api)
        self._opened: ipfshttpclient.Client | None = None

    def endpoint(self) -> tuple[str, str]:
        """The URL under which the RPC's commands stand, and the socket's path where it listens on one of Unix.

        Raises:
            ConfigError: a malformed address.
        """
        from ipfshttpclient.http_common import multiaddr_to_url_data

        with self._errors():
            url, socket_path, _, _ = multiaddr_to_url_data(self._address, "api/v0")
        return str(url), socket_path or ""

    def version(self) -> str:
        """The node's version.

        Raises:
            StoreError: it does not answer.
        """
        with self._errors():
            return str(self._client().version()["Version"])

    def push(self, store: Store, cid: str, progress: Progress | None = None) -> int:
        """Copy an object of the store to the node, block by block as it is, and pin it there.

        What the node has pinned already is not sent again. A push that was cut off leaves blocks that nobody refers to,
        which the next one completes or the node's ``repo gc`` deletes.

        Args:
            store: has the object, as plain files or as blocks.
            cid: the object's, or that of any DAG inside one.
            progress: called with the stage ``push`` and bytes.

        Returns:
            How many bytes of blocks were sent; 0 where the node had pinned it already.

        Raises:
            NotFoundError: it is not in the store.
            IntegrityError: a block of ours is damaged, or the node reports another root.
            StoreError: the node does not answer, took less than was sent, or did not pin it.
        """
        total = store.stored(cid).size_bytes
        if self.is_pinned(cid):
            return 0
        sent = _Sent(store.export_car(cid), total, progress)
        answers = self.call("dag/import", about=cid, body=sent, timeout_s=IMPORT_TIMEOUT_S, options=_IMPORT_OPTIONS)
        with self._errors(cid):
            roots = [answer["Root"] for answer in answers if "Root" in answer]
            reported = ", ".join(str(root["Cid"]["/"]) for root in roots)[:_WORDS_MAX_CHARS]
            failure = "".join(str(root.get("PinErrorMsg", "")) for root in roots)[:_WORDS_MAX_CHARS]
            taken = sum(int(answer["Stats"]["BlockCount"]) for answer in answers if "Stats" in answer)
        if reported != cid:
            raise IntegrityError(
                f"{self.name} reports another root than was sent", path=cid, expected=cid, actual=reported or "none"
            )
        if failure:
            raise StoreError(f"{self.name} did not pin {cid}: {failure}", hint=_hint_for(failure), cid=cid)
        if taken != sent.blocks:
            raise StoreError(f"{self.name} took {taken} of {sent.blocks} blocks of {cid}", hint=_LOG_HINT, cid=cid)
        if not self.is_pinned(cid):
            raise StoreError(f"{self.name} took {cid} but does not list its pin", cid=cid)
        return sent.size_bytes

    def unpin(self, cid: str) -> bool:
        """Take the node's pin away, so that its ``repo gc`` may delete the DAG; False if there was none.

        Raises:
            StoreError: it does not answer.
        """
        if not self.is_pinned(cid):
            return False
        self.call("pin/rm", cid, about=cid)
        return True

    def is_pinned(self, cid: str) -> bool:
        """Whether the node has pinned the DAG with this root.

        Raises:
            StoreError: it does not answer.
        """
        from ipfshttpclient.exceptions import ErrorResponse

        with self._errors(cid):
            try:
                return cid in self._client().pin.ls(cid, type="recursive")["Keys"]
            except ErrorResponse as error:
                if "is not pinned" in str(error):
                    return False
                raise

    def call(
        self,
        path: str,
        *arguments: str,
        options: Mapping[str, str | Sequence[str]] | None = None,
        about: str = "",
        body: Iterable[bytes] | None = None,
        timeout_s: float | None = None,
    ) -> list[Any]:
        """Call what the client library has no name for.

        Args:
            path: such as ``dag/import``.
            arguments: the positional ones.
            options: those by name; a list is sent as repeated values.
            about: the CID that errors name.
            body: the pieces of the one file to send.
            timeout_s: how long the node may be silent; None: ``TIMEOUT_S``.

        Returns:
            The JSON values of the answer, as they came: compare before you believe.

        Raises:
            NotFoundError: the node does not have it.
            StoreError: it does not answer, refused, or is no Kubo.
        """
        boundary, data, headers = uuid.uuid4().hex, None, None
        if body is not None:
            data = _multipart(body, boundary)
            headers = {"Content-Type": f'multipart/form-data; boundary="{boundary}"'}
        with self._errors(about):
            return list(
                self._client()._client.request(
                    f"/{path}",
                    arguments,
                    opts=dict(options or {}),
                    decoder="json",
                    data=data,
                    headers=headers,
                    timeout=timeout_s,
                )
            )

    def stat(self, cid: str) -> int:
        """Bytes of all blocks of a DAG, as the node counts them.

        Raises:
            NotFoundError: it does not have it.
            StoreError: it does not answer.
        """
        with self._errors(cid):
            return int(self._client().files.stat(f"/ipfs/{cid}")["CumulativeSize"])

    def add_only_hash(self, path: Path) -> str:
        """The CID that the node itself computes for one file: the test that ours is the same.

        Raises:
            StoreError: it does not answer.
        """
        with self._errors():
            return str(
                self._client().add(
                    path,
                    only_hash=True,
                    chunker=f"size-{CHUNK_BYTES}",
                    cid_version=1,
                    raw_leaves=True,
                    opts={"max-file-links": WIDTH},
                )["Hash"]
            )

    def _client(self) -> ipfshttpclient.Client:
        if self._opened is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # of a parameter that urllib3 no longer needs
                import ipfshttpclient

                opened = ipfshttpclient.Client(self._address, timeout=TIMEOUT_S, session=True)
            adapters = opened._client._session.adapters
            adapters.update({prefix: Bounded(adapter, self.name, _HINT) for prefix, adapter in adapters.items()})
            self._opened = opened
        return self._opened

    @contextlib.contextmanager
    def _errors(self, cid: str = "") -> Iterator[None]:
        import requests
        from ipfshttpclient import exceptions

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                yield
        except exceptions.AddressError as error:
            raise ConfigError(f"{self.name!r} is not the address of a Kubo RPC", hint=_ADDRESS_HINT) from error
        except exceptions.ErrorResponse as error:
            text = str(error)[:_WORDS_MAX_CHARS]
            if is_absence(text):
                raise NotFoundError(f"{self.name} does not have {cid}") from error
            raise StoreError(f"{self.name} refused: {text}", hint=_hint_for(text), cid=cid) from error
        except (exceptions.StatusError, exceptions.DecodingError, *_NOT_ITS_SHAPE) as error:
            raise StoreError(
                f"what answers at {self.name} is no Kubo RPC: {str(error)[:200]}", hint=_HINT, cid=cid
            ) from error
        except exceptions.TimeoutError as error:
            raise StoreError(f"Kubo at {self.name} timed out", hint=_HINT, cid=cid) from error
        except (exceptions.Error, requests.RequestException) as error:
            raise StoreError(f"Kubo at {self.name} does not answer", hint=_HINT, cid=cid) from error


def is_absence(refusal: str) -> bool:
    """Whether a node says that it does not have what it was asked for."""
    return any(words in refusal for words in _ABSENT)


def _hint_for(refusal: str) -> str:
    """The next step after what a node said."""
    if "no space left" in refusal:
        return "the node's disk is full: make room there (ipfs repo gc), then run it again"
    return _LOG_HINT


def _multiaddr(api: str) -> str:
    """The multiaddr of an RPC given as multiaddr or URL.

    Raises:
        ConfigError: neither.
    """
    if api.startswith("/"):
        return api
    parts = urllib.parse.urlsplit(api)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 5001)
    except ValueError as error:
        raise ConfigError(f"{api!r} has no valid port", hint=_ADDRESS_HINT) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{api!r} is not the address of a Kubo RPC", hint=_ADDRESS_HINT)
    host = parts.hostname
    kind = "ip6" if ":" in host else "ip4" if host.replace(".", "").isdigit() else "dns"
    return f"/{kind}/{host}/tcp/{port}/{parts.scheme}"


def _multipart(car: Iterable[bytes], boundary: str) -> Iterator[bytes]:
    """A CAR as the one file of a form, streamed."""
    yield (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="object.car"\r\n'
        "Content-Type: application/vnd.ipld.car\r\n\r\n"
    ).encode()
    yield from car
    yield f"\r\n--{boundary}--\r\n".encode()


class _Sent:
    """A CAR on its way, counted: its pieces are a header, and then one block each."""

    def __init__(self, pieces: Iterable[bytes], total: int, progress: Progress | None) -> None:
        self._pieces = pieces
        self._total = total
        self._progress = progress
        self.blocks = -1
        self.size_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            yield piece
            self.blocks += 1
            self.size_bytes += len(piece) if self.blocks else 0
            if self._progress is not None:
                self._progress("push", min(self._total, self.size_bytes), self._total)
