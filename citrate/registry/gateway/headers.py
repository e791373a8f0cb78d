"""The headers of answers: how long they hold, what they are, what they are called."""

from __future__ import annotations

import hashlib
import re
import urllib.parse

from starlette.requests import Request
from starlette.responses import Response

from citrate.registry.gateway.request import FORMATS, Wanted
from citrate.registry.paths import Found

IMMUTABLE = "public, max-age=29030400, immutable"
LISTED = "public, max-age=604800, stale-while-revalidate=2678400"
PAGES = "citrate-1"
"""Named in the Etag of generated pages; another number whenever they look different."""

CORS = (
    ("Access-Control-Allow-Origin", ("*",)),
    ("Access-Control-Allow-Methods", ("GET", "HEAD", "OPTIONS")),
    ("Access-Control-Allow-Headers", ("Content-Type", "Range", "User-Agent", "X-Requested-With")),
    (
        "Access-Control-Expose-Headers",
        ("Content-Length", "Content-Range", "Ipfs-Uri", "X-Chunked-Output", "X-Ipfs-Path", "X-Ipfs-Roots",
         "X-Stream-Output"),
    ),
)  # fmt: skip
"""Scripts of any page may read: what is served is public by its nature."""

_PRINTABLE = re.compile(r"[\x20-\x7e]*")


def finish(response: Response, wanted: Wanted | None) -> Response:
    """Add what every answer has."""
    response.headers["X-Content-Type-Options"] = "nosniff"
    for name, values in CORS:
        for value in values:
            response.headers.append(name, value)
    if wanted is not None:
        response.headers["Ipfs-Uri"] = wanted.uri
        if _PRINTABLE.fullmatch(wanted.shown):
            response.headers["X-Ipfs-Path"] = wanted.shown
    return response


def of(wanted: Wanted, found: Found, kind: str, etag: str) -> dict[str, str]:
    """The headers of an answer that never changes."""
    headers = {
        "Content-Type": kind, "Etag": etag, "Cache-Control": IMMUTABLE, "X-Ipfs-Roots": ",".join(found.roots),
    }  # fmt: skip
    if wanted.by_header:
        headers["Content-Location"] = _location(wanted)
    return headers


def _location(wanted: Wanted) -> str:
    """The URL that names this answer without an ``Accept`` header."""
    name = next(name for name, kind in FORMATS.items() if kind == wanted.format)
    query = dict(wanted.query) | {"format": name}
    for key, value in wanted.parameters.items():
        query.setdefault(f"{name}-{key}", value)
    return f"{wanted.url_path}?{urllib.parse.urlencode(sorted(query.items()))}"


def disposition(kind: str, name: str) -> str:
    """``Content-Disposition``, with the name once in ASCII and once in full."""
    plain = "".join(character if character.isascii() else "_" for character in name)
    quote = urllib.parse.quote
    return f"{kind}; filename=\"{quote(plain, safe='')}\"; filename*=UTF-8''{quote(name, safe='')}"


def etag(cid: str, kind: str) -> str:
    """The Etag of a representation: the CID, and the format unless it is the file itself."""
    if not kind:
        return f'"{cid}"'
    return f'"{cid}.{re.split("[/.]", kind)[-1]}"'


def car_etag(wanted: Wanted) -> str:
    """The Etag of a CAR: weak, since blocks may come in another order, and naming everything that shapes it."""
    names = ("dag-scope", "entity-bytes", "car-order", "car-dups")
    shape = [wanted.shown.rstrip("/"), *(f"{name}={wanted.query.get(name, '')}" for name in names)]
    shape += [f"{name}={wanted.parameters.get(name, '')}" for name in ("order", "dups")]
    return f'W/"{wanted.cid}.car.{hashlib.sha256(chr(0).join(shape).encode()).hexdigest()[:16]}"'


def page_etag(kind: str, cid: str) -> str:
    """The Etag of a generated page; ``kind`` is DirIndex or DagIndex."""
    return f'"{kind}-{PAGES}_CID-{cid}"'


def is_known(request: Request, *tags: str) -> bool:
    """Whether the client has one of these already (``If-None-Match``, compared weakly)."""
    asked = request.headers.get("if-none-match", "")
    theirs = {tag.strip().removeprefix("W/") for tag in asked.split(",")}
    return "*" in theirs or any(tag.removeprefix("W/") in theirs for tag in tags)


def representations(wanted: Wanted, cid: str) -> tuple[str, ...]:
    """The Etags by which a client may know what stands at ``cid``."""
    return etag(cid, wanted.format), etag(cid, ""), page_etag("DirIndex", cid), page_etag("DagIndex", cid)
