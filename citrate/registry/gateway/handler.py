"""Who may have what: from a request to the part that answers it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from citrate.core.errors import CitrateError, FormatError, IntegrityError, NotFoundError
from citrate.registry.cid import Cid
from citrate.registry.gateway import answers, headers, routing
from citrate.registry.gateway.request import CAR_TYPE, RAW_TYPE, CarWanted, HttpError, Wanted
from citrate.registry.paths import Found, Read, find
from citrate.registry.store import Store

_LOG = logging.getLogger("citrate.gateway")

Allowed = Callable[[str], bool]
"""Says of an object's CID whether it may be served."""


class Handler:
    """Answers requests from one store."""

    def __init__(self, store: Store, allowed: Allowed | None) -> None:
        self._store = store
        self._allowed = allowed

    def answer(self, request: Request) -> Response:
        """Answer ``/ipfs/CID[/path]``; runs on a thread of Starlette's pool."""
        if request.method == "OPTIONS":
            return headers.finish(Response(headers={"Allow": "GET, HEAD, OPTIONS"}), None)
        wanted: Wanted | None = None
        try:
            wanted = Wanted.parse(request)
            response = self._answer(request, wanted)
        except HttpError as error:
            response = PlainTextResponse(error.message, error.status)
        except NotFoundError as error:
            response = PlainTextResponse(error.message, 404)
        except IntegrityError:
            response = PlainTextResponse("a block is damaged here and was not sent", 500)
        except FormatError as error:
            response = PlainTextResponse(error.message, 500)
        except CitrateError as error:
            _LOG.error("%s", error.message)  # it may tell of this machine, so not to the client
            response = PlainTextResponse("the store of this gateway cannot be read", 500)
        return headers.finish(response, wanted)

    def providers(self, request: Request) -> Response:
        """Answer ``/routing/v1/providers/CID``."""
        return headers.finish(routing.providers(request, self._reader()), None)

    def _answer(self, request: Request, wanted: Wanted) -> Response:
        _refuse_service_worker(request, wanted)
        read = self._reader()
        if request.headers.get("cache-control") == "only-if-cached":
            if not _is_here(read, wanted):
                raise HttpError(412, f"{wanted.shown} is not here")
            if request.method == "HEAD":
                return Response()
        if wanted.format == CAR_TYPE:
            CarWanted.parse(wanted.query, wanted.parameters)  # a bad parameter is told before the path is followed
        found = _find(read, wanted)
        if wanted.format == CAR_TYPE:
            return answers.car(request, wanted, found, read)
        if headers.is_known(request, *headers.representations(wanted, found.cid)):
            return Response(status_code=304, headers={"Etag": headers.etag(found.cid, wanted.format)})
        if wanted.format == RAW_TYPE:
            return answers.raw(request, wanted, found, read)
        return answers.default(request, wanted, found, read)

    def _reader(self) -> Read:
        """What this request may read: each block must belong to an object that may be served, since a block that a
        stranger made up (inside its own CID) may link to anything."""
        store = self._store
        allowed = functools.cache(self._allowed) if self._allowed is not None else None

        def read(cid: str) -> bytes:
            if allowed is not None and not Cid.parse(cid).is_identity and not any(map(allowed, store.owners(cid))):
                raise NotFoundError(f"block {cid} is not here")
            try:
                return store.block(cid)
            except NotFoundError as error:
                raise NotFoundError(f"block {cid} is not here") from error  # and not where on this machine

        return read


def _find(read: Read, wanted: Wanted) -> Found:
    """Follow the path.

    Raises:
        NotFoundError: a name does not exist, or a block is not here, or may not be served.
        HttpError: the path leads through a block that is malformed.
    """
    try:
        return find(read, str(wanted.cid), wanted.path)
    except FormatError as error:
        raise HttpError(500, error.message) from error


def _is_here(read: Read, wanted: Wanted) -> bool:
    try:
        _find(read, wanted)
    except (NotFoundError, HttpError):
        return False
    return True


def _refuse_service_worker(request: Request, wanted: Wanted) -> None:
    """A script of one object must not take over the requests for all others."""
    if request.headers.get("service-worker") == "script" and not wanted.names:
        raise HttpError(400, "a service worker may not be registered for this scope")
