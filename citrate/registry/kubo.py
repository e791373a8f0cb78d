"""A Kubo node through ``ipfshttpclient``, the only module that imports it.

``ipfshttpclient.connect`` refuses every Kubo since 0.8 by its version; its ``Client`` works. What that lacks
(``dag/import``) goes over the client's own session.
"""

from __future__ import annotations

import contextlib
import urllib.parse
import uuid
import warnings
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citrate.core.errors import ConfigError, IntegrityError, NotFoundError, StoreError
from citrate.core.sink import Progress
from citrate.registry.dag import CHUNK_BYTES, WIDTH
from citrate.registry.store import Store

if TYPE_CHECKING:
    import ipfshttpclient

TIMEOUT_S = 30.0
IMPORT_TIMEOUT_S = 600.0
"""How long Kubo may take to store and pin what was sent, after the last byte."""

_HINT = "start it (ipfs daemon), or set kubo_api to its address, for example /ip4/127.0.0.1/tcp/5001"
_ADDRESS_HINT = "for example /ip4/127.0.0.1/tcp/5001 or http://127.0.0.1:5001"
_ABSENT = ("could not find", "not found", "no link named")


class Kubo:
    """One node, by multiaddr (``/ip4/127.0.0.1/tcp/5001``) or URL (``http://127.0.0.1:5001``). Connects when used."""

    def __init__(self, api: str) -> None:
        self.name = api
        self._address = _multiaddr(api)
        self._opened: ipfshttpclient.Client | None = None

    def version(self) -> str:
        """The node's version.

        Raises:
            StoreError: it does not answer.
        """
        with self._errors():
            return str(self._client().version()["Version"])

    def push(self, store: Store, cid: str, progress: Progress | None = None) -> None:
        """Copy an object of the store to the node, block by block as it is, and pin it there.

        Raises:
            NotFoundError: it is not in the store.
            IntegrityError: a block of ours is damaged, or the node reports another root.
            StoreError: the node does not answer, or did not pin it.
        """
        total = store.artifact(cid).size_bytes
        boundary = uuid.uuid4().hex
        body = _multipart(_counted(store.export_car(cid), total, progress), boundary)
        with self._errors(cid):
            answers = self._client()._client.request(
                "/dag/import",
                opts={"pin-roots": "true"},
                decoder="json",
                data=body,
                headers={"Content-Type": f'multipart/form-data; boundary="{boundary}"'},
                timeout=IMPORT_TIMEOUT_S,
            )
        roots = [answer["Root"] for answer in answers if "Root" in answer]
        reported = ", ".join(str(root["Cid"]["/"]) for root in roots)
        if reported != cid:
            raise IntegrityError(
                f"{self.name} reports another root than was sent", path=cid, expected=cid, actual=reported or "none"
            )
        if failure := roots[0].get("PinErrorMsg"):
            raise StoreError(f"{self.name} did not pin {cid}: {failure}", hint="see its free space and log", cid=cid)
        if not self.is_pinned(cid):
            raise StoreError(f"{self.name} took {cid} but does not list its pin", cid=cid)

    def pin(self, cid: str) -> None:
        """Pin a DAG; the node fetches what it lacks.

        Raises:
            StoreError: it does not answer, or could not.
        """
        with self._errors(cid):
            self._client().pin.add(cid, timeout=IMPORT_TIMEOUT_S)

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

    def stat(self, cid: str) -> int:
        """Bytes of all blocks of a DAG, as the node counts them.

        Raises:
            NotFoundError: it does not have it.
            StoreError: it does not answer.
        """
        with self._errors(cid):
            return int(self._client().files.stat(f"/ipfs/{cid}")["CumulativeSize"])

    def block(self, cid: str) -> bytes:
        """A block, unverified.

        Raises:
            NotFoundError: the node does not have it.
            StoreError: it does not answer.
        """
        with self._errors(cid):
            return bytes(self._client().block.get(cid))

    def cat(self, cid: str, offset: int = 0) -> Generator[bytes, None, None]:
        """A file's bytes from ``offset`` on, unverified.

        Raises:
            NotFoundError: the node does not have it.
            StoreError: it does not answer, or broke off.
        """
        with self._errors(cid):
            pieces = self._client().cat(cid, offset=offset, stream=True)
        return self._pieces(cid, pieces)

    def _pieces(self, cid: str, pieces: Any) -> Generator[bytes, None, None]:
        with self._errors(cid), contextlib.closing(pieces):
            yield from pieces

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

                self._opened = ipfshttpclient.Client(self._address, timeout=TIMEOUT_S, session=True)
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
            text = str(error)
            if any(words in text for words in _ABSENT):
                raise NotFoundError(f"{self.name} does not have {cid}") from error
            raise StoreError(f"{self.name} refused: {text}", cid=cid) from error
        except exceptions.StatusError as error:
            raise StoreError(f"{self.name} is no Kubo RPC: {error}", hint=_HINT, cid=cid) from error
        except exceptions.TimeoutError as error:
            raise StoreError(f"Kubo at {self.name} timed out", hint=_HINT, cid=cid) from error
        except (exceptions.Error, requests.RequestException) as error:
            raise StoreError(f"Kubo at {self.name} does not answer", hint=_HINT, cid=cid) from error


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


def _counted(pieces: Iterable[bytes], total: int, progress: Progress | None) -> Iterator[bytes]:
    done = 0
    for piece in pieces:
        yield piece
        done = min(total, done + len(piece))  # the CAR's own bytes come on top
        if progress is not None:
            progress("push", done, total)
