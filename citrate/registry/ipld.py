"""What blocks link to, whatever their codec; and DAG-JSON, which needs nothing but ``json``.

Source: https://ipld.io/specs/codecs/. A block is untrusted, and already compared with its CID.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator

from citrate.core.errors import FormatError
from citrate.registry import cid as cids
from citrate.registry import dagcbor, dagpb
from citrate.registry.cid import Cid
from citrate.registry.dagcbor import Ipld
from citrate.registry.dagpb import BLOCK_MAX_BYTES

_OPAQUE = (cids.RAW, cids.CBOR, cids.JSON)
"""Codecs whose blocks hold no links."""


def links(cid: Cid, block: bytes) -> list[Cid]:
    """The CIDs that a block links to, in its own order, as often as they stand there.

    Raises:
        FormatError: the block is malformed, or nobody here knows its codec's links.
    """
    if cid.codec in _OPAQUE:
        return []
    if cid.codec == cids.DAG_PB:
        return [Cid.decode(link.cid) for link in dagpb.decode(block).links]
    if cid.codec in (cids.DAG_CBOR, cids.DAG_JSON):
        return list(_cids(decode(cid, block)))
    raise FormatError(f"{cid} has codec 0x{cid.codec:x}, whose links are not known here")


def decode(cid: Cid, block: bytes) -> Ipld:
    """The data of a block of DAG-CBOR, DAG-JSON, CBOR or JSON.

    Raises:
        FormatError: malformed, or another codec.
    """
    if len(block) > BLOCK_MAX_BYTES:
        raise FormatError(f"block of {len(block)} bytes, more than {BLOCK_MAX_BYTES}")
    if cid.codec in (cids.DAG_CBOR, cids.CBOR):
        return dagcbor.decode(block)
    if cid.codec in (cids.DAG_JSON, cids.JSON):
        return _json(block, has_links=cid.codec == cids.DAG_JSON)
    raise FormatError(f"{cid} is no block of data")


def _cids(value: Ipld) -> Iterator[Cid]:
    if isinstance(value, Cid):
        yield value
    elif isinstance(value, list | dict):
        for item in value if isinstance(value, list) else value.values():
            yield from _cids(item)


def _json(block: bytes, *, has_links: bool) -> Ipld:
    try:
        return _read(json.loads(block.decode(), object_pairs_hook=_unique), has_links, 0)
    except RecursionError as error:
        raise FormatError("no JSON document: it is nested too deep") from error
    except ValueError as error:
        raise FormatError(f"no JSON document: {str(error)[:100]}") from error


def _unique(pairs: list[tuple[str, Ipld]]) -> dict[str, Ipld]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("duplicate key")
    return document


def _read(value: Ipld, has_links: bool, depth: int) -> Ipld:
    """Turn ``{"/": ...}`` into links and bytes; refuse text that UTF-8 cannot say.

    Raises:
        FormatError: nested too deep, or a reserved key with something else.
        ValueError: half of a surrogate pair.
    """
    if depth > dagcbor.DEPTH_MAX:
        raise FormatError(f"JSON nested more than {dagcbor.DEPTH_MAX} deep")
    if isinstance(value, str):
        value.encode()
    if isinstance(value, list):
        return [_read(item, has_links, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if has_links and list(value) == ["/"]:
        return _reserved(value["/"])
    for key in value:
        key.encode()
    return {key: _read(item, has_links, depth + 1) for key, item in value.items()}


def _reserved(inside: Ipld) -> Ipld:
    """What stands under the key ``/``: a link, or bytes in base64."""
    if isinstance(inside, str):
        return Cid.parse(inside)
    data = inside.get("bytes") if isinstance(inside, dict) and len(inside) == 1 else None
    if not isinstance(data, str):
        raise FormatError("DAG-JSON with a key '/' that is neither a link nor bytes")
    try:
        return base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError("DAG-JSON with malformed bytes") from error
