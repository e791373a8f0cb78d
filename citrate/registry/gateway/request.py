"""What a request asks for: the path, the format, and the parameters of a CAR."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass
from email.message import Message

from starlette.datastructures import QueryParams
from starlette.requests import Request

from citrate.core.errors import FormatError
from citrate.registry.byte_span import ByteSpan
from citrate.registry.cid import Cid

RAW_TYPE = "application/vnd.ipld.raw"
CAR_TYPE = "application/vnd.ipld.car"
JSON_TYPE = "application/json"
CBOR_TYPE = "application/cbor"
DAG_JSON_TYPE = "application/vnd.ipld.dag-json"
DAG_CBOR_TYPE = "application/vnd.ipld.dag-cbor"
FORMATS = {
    "raw": RAW_TYPE, "car": CAR_TYPE, "json": JSON_TYPE, "cbor": CBOR_TYPE,
    "dag-json": DAG_JSON_TYPE, "dag-cbor": DAG_CBOR_TYPE,
}  # fmt: skip
"""What ``?format=`` may be, and the media type that it stands for."""

_EXPLICIT = ("application/vnd.ipld", "application/vnd.ipfs", "application/x-tar", JSON_TYPE, CBOR_TYPE)


class HttpError(Exception):
    """An answer other than what was asked for: a status and a line for people."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def entity_bytes(text: str) -> ByteSpan:
    """Parse ``entity-bytes``: ``FROM:TO``, where ``*`` is the end.

    Raises:
        HttpError: it is malformed, or runs backwards.
    """
    first, colon, last = text.partition(":")
    try:
        if not colon or not (first + last).isascii() or "_" in text or " " in text:
            raise ValueError(text)
        found = ByteSpan(int(first), None if last == "*" else int(last))
    except ValueError as error:
        raise HttpError(400, f"entity-bytes {text[:40]!r} is not FROM:TO") from error
    if found.last is not None and (found.first < 0) == (found.last < 0) and found.first > found.last:
        raise HttpError(400, f"entity-bytes {text[:40]!r} runs backwards")
    return found


@dataclass(frozen=True)
class CarWanted:
    """The parameters of a CAR. Source: the trustless gateway specification, IPIP-402 and IPIP-412."""

    scope: str
    bytes: ByteSpan | None
    order: str
    duplicates: bool

    @classmethod
    def parse(cls, query: QueryParams, accepted: dict[str, str]) -> CarWanted:
        """Read the query, which goes before the parameters of the ``Accept`` header.

        Raises:
            HttpError: a value that is not known.
        """

        def given(name: str, known: tuple[str, ...], default: str) -> str:
            value = query.get(f"car-{name}") or accepted.get(name) or default
            if value not in known:
                raise HttpError(400, f"{name} {value[:40]!r} of a CAR is not supported: {', '.join(known)}")
            return value

        given("version", ("1",), "1")
        scope = query.get("dag-scope", "all")
        if scope not in ("block", "entity", "all"):
            raise HttpError(400, f"unknown dag-scope {scope[:40]!r}")
        asked = query.get("entity-bytes")
        return cls(
            scope,
            entity_bytes(asked) if asked is not None else None,
            given("order", ("dfs", "unk"), "dfs"),
            given("dups", ("y", "n"), "n") == "y",
        )

    @property
    def content_type(self) -> str:
        """The media type that says what was done; ``order=unk`` is answered depth first too."""
        return f"{CAR_TYPE}; version=1; order={self.order}; dups={'y' if self.duplicates else 'n'}"


@dataclass(frozen=True)
class Wanted:
    """A request, parsed.

    Attributes:
        root: the CID as it was written.
        cid: the same, read.
        names: the names of the path.
        slash: whether the path ends with one.
        format: the media type that was asked for explicitly, or empty.
        by_header: whether it was the ``Accept`` header that asked for it.
        parameters: those of the ``Accept`` header's type.
    """

    root: str
    cid: Cid
    names: tuple[str, ...]
    slash: bool
    format: str
    by_header: bool
    parameters: dict[str, str]
    query: QueryParams

    @classmethod
    def parse(cls, request: Request) -> Wanted:
        """Read path, query and headers.

        Raises:
            HttpError: the path is malformed or leads above its root, or the format is unknown.
        """
        root, names, slash = _path(request)
        try:
            cid = Cid.parse(root)
        except FormatError as error:
            raise HttpError(400, error.message) from error
        kind, by_header, parameters = _format(request)
        return cls(root, cid, names, slash, kind, by_header, parameters, request.query_params)

    @property
    def path(self) -> str:
        """The path after the root, without slashes around it."""
        return "/".join(self.names)

    @property
    def url_path(self) -> str:
        """The path as it stands in links."""
        return urllib.parse.quote(self.shown, safe="/")

    @property
    def shown(self) -> str:
        """The path as people read it."""
        return "/".join(["/ipfs", self.root, *self.names]) + ("/" if self.slash else "")

    @property
    def uri(self) -> str:
        """The one ``ipfs://`` address of what the path names (IPIP-548)."""
        cid = Cid(1, self.cid.codec, self.cid.hash_code, self.cid.digest)
        encoded = [urllib.parse.quote(name, safe="") for name in self.names]
        return "/".join([f"ipfs://{cid}", *encoded]) + ("/" if self.slash and encoded else "")

    @property
    def file_name(self) -> str:
        """The name that the client wants the file to have, or the last of the path."""
        return self.query.get("filename") or (self.names[-1] if self.names else "")

    @property
    def is_download(self) -> bool:
        return self.query.get("download") == "true"


def _path(request: Request) -> tuple[str, tuple[str, ...], bool]:
    raw: bytes = request.scope["raw_path"]
    encoded = raw.decode("ascii", "replace").split("?")[0].removeprefix("/ipfs/")
    try:
        path = urllib.parse.unquote(encoded, errors="strict")
    except UnicodeDecodeError as error:
        raise HttpError(400, "the path is not UTF-8") from error
    root, *rest = path.split("/")
    names: list[str] = []
    for name in rest:
        if name == "..":
            if not names:
                raise HttpError(400, "the path leads above its root")
            names.pop()
        elif name not in ("", "."):
            names.append(name)
    return root, tuple(names), path.endswith("/")


def _format(request: Request) -> tuple[str, bool, dict[str, str]]:
    """The media type, whether a header asked for it, and its parameters. ``?format`` goes first (IPIP-523)."""
    accepted, parameters = _accepted(request)
    named = request.query_params.get("format")
    if not named:
        if accepted and accepted not in FORMATS.values():
            raise HttpError(406 if accepted == "application/x-tar" else 400, f"{accepted[:80]} is not served here")
        return accepted, bool(accepted), parameters
    if named not in FORMATS:
        raise HttpError(406, f"format {named[:40]!r} is not served here: {', '.join(FORMATS)}")
    return FORMATS[named], False, parameters if accepted == FORMATS[named] else {}


def _accepted(request: Request) -> tuple[str, dict[str, str]]:
    """The first media type of the ``Accept`` headers that is not one that browsers send anyway."""
    for header in request.headers.getlist("accept"):
        for one in header.split(","):
            if one.strip().startswith(_EXPLICIT):
                message = Message()
                message["Content-Type"] = one.strip()
                found = {name: str(value) for name, value in message.get_params() or []}
                return message.get_content_type(), {name: value for name, value in found.items() if value}
    return "", {}
