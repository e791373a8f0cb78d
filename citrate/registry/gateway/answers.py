"""The answers to requests that can be answered: blocks, CARs, documents, files, folders."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from citrate.core.errors import NotFoundError
from citrate.registry import cid as cids
from citrate.registry import ipld, reader
from citrate.registry.cid import Cid
from citrate.registry.gateway import cars, headers, media, pages
from citrate.registry.gateway.ranges import begun, ranged
from citrate.registry.gateway.request import (
    CBOR_TYPE,
    DAG_CBOR_TYPE,
    DAG_JSON_TYPE,
    JSON_TYPE,
    RAW_TYPE,
    CarWanted,
    HttpError,
    Wanted,
)
from citrate.registry.paths import Entity, Found, Read, find

_DOCUMENTS = {
    cids.JSON: JSON_TYPE, cids.CBOR: CBOR_TYPE, cids.DAG_JSON: DAG_JSON_TYPE, cids.DAG_CBOR: DAG_CBOR_TYPE,
}  # fmt: skip
_AS_THEY_ARE = {JSON_TYPE: (cids.JSON, cids.DAG_JSON), CBOR_TYPE: (cids.CBOR, cids.DAG_CBOR)}
_SANDBOX = "sandbox"
"""The policy of files: a browser shows them, and runs nothing in them."""


def raw(request: Request, wanted: Wanted, found: Found, read: Read) -> Response:
    """One block."""
    block = read(found.cid)
    answer = headers.of(wanted, found, RAW_TYPE, headers.etag(found.cid, RAW_TYPE))
    name = wanted.query.get("filename") or f"{found.cid}.bin"
    answer["Content-Disposition"] = headers.disposition("attachment", name)
    return ranged(request, answer, len(block), lambda start, stop: iter([block[start:stop]]))


def car(request: Request, wanted: Wanted, found: Found, read: Read) -> Response:
    """A CAR; its parameters were read before the path was followed."""
    shape = CarWanted.parse(wanted.query, wanted.parameters)
    answer = headers.of(wanted, found, shape.content_type, headers.car_etag(wanted))
    answer["Accept-Ranges"] = "none"
    name = "_".join([str(wanted.cid), *wanted.names[-1:]]) + ".car"
    answer["Content-Disposition"] = headers.disposition("attachment", wanted.query.get("filename") or name)
    if headers.is_known(request, answer["Etag"]):
        return Response(status_code=304, headers=answer)
    if request.method == "HEAD":
        return _without_length(answer)
    return StreamingResponse(begun(cars.stream(read, found, shape)), headers=answer)


def _without_length(answer: dict[str, str]) -> Response:
    """The answer to HEAD where nobody knows how long the body would be."""
    response = Response(headers=answer)
    del response.headers["Content-Length"]
    return response


def default(request: Request, wanted: Wanted, found: Found, read: Read) -> Response:
    """What a browser wants: the file, the folder, the document."""
    if found.entity is Entity.DATA or wanted.format in (DAG_JSON_TYPE, DAG_CBOR_TYPE):
        return document(request, wanted, found, read)
    if found.entity is Entity.DIRECTORY:
        return folder(request, wanted, found, read)
    if found.entity is Entity.NODE:
        raise HttpError(500, f"{found.cid} is neither a file nor a folder; ask for format=raw or format=car")
    return file(request, wanted, found, read, found)


def document(request: Request, wanted: Wanted, found: Found, read: Read) -> Response:
    """A block of JSON, CBOR, DAG-JSON or DAG-CBOR as it is. Nothing is converted: the client could not verify it.

    Raises:
        HttpError: another codec was asked for, or a place inside the document.
    """
    cid = Cid.parse(found.cid)
    if found.rest:
        raise HttpError(
            501, f"{'/'.join(found.rest)!r} of {cid}: reading IPLD Kinds other than Links (CBOR Tag 42) is not "
            "implemented; read the whole document",
        )  # fmt: skip
    own = _DOCUMENTS.get(cid.codec, "")
    kind = wanted.format or own
    if kind != own and cid.codec not in _AS_THEY_ARE.get(kind, ()):
        status = 406 if kind in (DAG_JSON_TYPE, DAG_CBOR_TYPE) else 400
        raise HttpError(status, f"{cid} is not converted to {kind}: fetch it with format=raw and convert it there")
    is_dag = cid.codec in (cids.DAG_JSON, cids.DAG_CBOR)
    if not wanted.format and is_dag and "text/html" in request.headers.get("accept", "") and not wanted.is_download:
        return _document_page(request, wanted, found, cid, read)
    block = read(found.cid)
    answer = headers.of(wanted, found, kind, headers.etag(found.cid, kind))
    extension = ".json" if kind in (JSON_TYPE, DAG_JSON_TYPE) else ".cbor"
    shown = "inline" if extension == ".json" and not wanted.is_download else "attachment"
    name = wanted.query.get("filename") or found.cid + extension
    answer["Content-Disposition"] = headers.disposition(shown, name)
    return ranged(request, answer, len(block), lambda start, stop: iter([block[start:stop]]))


def _document_page(request: Request, wanted: Wanted, found: Found, cid: Cid, read: Read) -> Response:
    if not wanted.slash:
        return _with_slash(request, wanted, found)
    page = pages.document(wanted, cid, ipld.decode(cid, read(found.cid)))
    answer = headers.of(wanted, found, "text/html", headers.page_etag("DagIndex", found.cid))
    del answer["Cache-Control"]  # how the page looks may change
    return Response(page, headers=answer | {"Content-Security-Policy": pages.POLICY})


def folder(request: Request, wanted: Wanted, found: Found, read: Read) -> Response:
    """A folder: its ``index.html``, or a list."""
    if not wanted.slash:
        return _with_slash(request, wanted, found)
    try:
        index = find(read, found.cid, "index.html")
    except NotFoundError:
        return _listing(request, wanted, found, read)
    if index.entity is not Entity.FILE:
        raise HttpError(422, "index.html is no file")
    return file(request, wanted, found, read, index)


def _listing(request: Request, wanted: Wanted, found: Found, read: Read) -> Response:
    answer = headers.of(wanted, found, "text/html", headers.page_etag("DirIndex", found.cid))
    answer |= {"Cache-Control": headers.LISTED, "Content-Security-Policy": pages.POLICY}
    if request.method == "HEAD":
        return _without_length(answer)
    return Response(pages.listing(wanted, found.cid, reader.entries(read, found.cid)), headers=answer)


def _with_slash(request: Request, wanted: Wanted, found: Found) -> Response:
    query = request.url.query
    target = f"{wanted.url_path}/" + (f"?{query}" if query else "")
    return Response(status_code=301, headers={"Location": target, "X-Ipfs-Roots": ",".join(found.roots)})


def file(request: Request, wanted: Wanted, named: Found, read: Read, content: Found) -> Response:
    """A file's bytes, or where a symbolic link points to.

    Args:
        request: the request.
        wanted: the same, parsed.
        named: what the path names, which the answer is called after.
        read: a verified block by its CID.
        content: the file itself: ``named``, or the ``index.html`` in it.
    """
    symlink = content.entity is Entity.SYMLINK
    name = wanted.file_name if content is named else "index.html"
    kind = "inode/symlink" if symlink else media.by_name(name)
    if not kind:
        kind = media.by_content(reader.content(read, content.cid), content.size_bytes)
    answer = headers.of(wanted, named, kind, headers.etag(named.cid, ""))
    answer["Content-Security-Policy"] = _SANDBOX
    if asked := wanted.query.get("filename"):
        answer["Content-Disposition"] = headers.disposition("attachment" if wanted.is_download else "inline", asked)
    if symlink:
        target = reader.symlink(read, content.cid)
        answer |= {"Content-Length": str(len(target)), "Accept-Ranges": "bytes"}
        return Response(b"" if request.method == "HEAD" else target, headers=answer)
    return ranged(
        request, answer, content.size_bytes, lambda start, stop: reader.content(read, content.cid, start, stop)
    )
