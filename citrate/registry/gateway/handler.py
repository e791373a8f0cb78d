"""Who may have what: from a request to the part that answers it."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from citrate.core.errors import CitrateError, FormatError, IntegrityError, NotFoundError
from citrate.registry.gateway import answers, headers
from citrate.registry.gateway.request import CAR_TYPE, RAW_TYPE, CarWanted, HttpError, Wanted
from citrate.registry.paths import Found, find
from citrate.registry.store import Store

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
        except CitrateError as error:
            response = PlainTextResponse(error.message, 500)
        return headers.finish(response, wanted)

    def _answer(self, request: Request, wanted: Wanted) -> Response:
        _refuse_service_worker(request, wanted)
        if request.headers.get("cache-control") == "only-if-cached":
            if not self._is_here(wanted):
                raise HttpError(412, f"{wanted.shown} is not here")
            if request.method == "HEAD":
                return Response()
        if wanted.format == CAR_TYPE:
            CarWanted.parse(wanted.query, wanted.parameters)  # a bad parameter is told before the path is followed
        found = self._find(wanted)
        if wanted.format == CAR_TYPE:
            return answers.car(request, wanted, found, self._store.block)
        if headers.is_known(request, *headers.representations(wanted, found.cid)):
            return Response(status_code=304, headers={"Etag": headers.etag(found.cid, wanted.format)})
        if wanted.format == RAW_TYPE:
            return answers.raw(request, wanted, found, self._store.block)
        return answers.default(request, wanted, found, self._store.block)

    def _find(self, wanted: Wanted) -> Found:
        """Follow the path, if its root may be served.

        Raises:
            NotFoundError: it may not, or a name does not exist, or a block is not here.
            HttpError: the path leads through a block that is malformed.
        """
        root = str(wanted.cid)
        owners = self._store.owners(root)
        allowed = self._allowed
        if not wanted.cid.is_identity and not any(allowed is None or allowed(owner) for owner in owners):
            raise NotFoundError(f"{root} is not served here")
        try:
            return find(self._store.block, root, wanted.path)
        except FormatError as error:
            raise HttpError(500, error.message) from error

    def _is_here(self, wanted: Wanted) -> bool:
        try:
            self._find(wanted)
        except (NotFoundError, HttpError):
            return False
        return True


def _refuse_service_worker(request: Request, wanted: Wanted) -> None:
    """A script of one object must not take over the requests for all others."""
    if request.headers.get("service-worker") == "script" and not wanted.names:
        raise HttpError(400, "a service worker may not be registered for this scope")
