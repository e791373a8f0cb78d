"""Who has a block: this gateway itself, told to Kubo nodes in the protocol in which they ask.

Source: https://specs.ipfs.tech/routing/http-routing-v1/. A node with this gateway among its
``Routing.DelegatedRouters`` fetches from it: over plain HTTP from loopback and private addresses, which is all that
Kubo does without TLS, and from anywhere where TLS and HTTP/2 end in front of it.
"""

from __future__ import annotations

import hashlib
import ipaddress

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from citrate.core.errors import CitrateError, FormatError
from citrate.registry import multibase
from citrate.registry.cid import Cid
from citrate.registry.paths import Read

_PROTOCOL = "transport-ipfs-gateway-http"
_HOST_MAX_CHARS = 253


def providers(request: Request, read: Read) -> Response:
    """Answer ``/routing/v1/providers/CID``: with this gateway, if it would serve the block, or with nobody.

    Args:
        request: its host and port are how the client reaches us, and so what is told.
        read: a verified block that may be served.
    """
    try:
        cid = Cid.parse(request.path_params["cid"])
    except FormatError as error:
        return Response(error.message, 400)
    address = _address(request)
    try:
        read(str(cid))
    except CitrateError:
        address = ""
    found = [_record(address)] if address else []
    return JSONResponse({"Providers": found}, headers={"Cache-Control": "no-store"})


def _record(address: str) -> dict[str, object]:
    # Kubo keeps what it knows of a provider under a peer's name; a gateway has no key, and proves nothing with one.
    name = multibase.base58_encode(b"\x12\x20" + hashlib.sha256(b"citrate gateway " + address.encode()).digest())
    return {"Schema": "peer", "ID": name, "Addrs": [address], "Protocols": [_PROTOCOL]}


def _address(request: Request) -> str:
    """How the client reaches us, as a multiaddr; empty if that cannot be said."""
    url = request.url
    secure = url.scheme == "https"
    host, port = url.hostname or "", url.port or (443 if secure else 80)
    try:
        kind = f"ip{ipaddress.ip_address(host).version}"
    except ValueError:
        if not (0 < len(host) <= _HOST_MAX_CHARS and all(c.isalnum() or c in ".-" for c in host) and host.isascii()):
            return ""
        kind = "dns"
    return f"/{kind}/{host}/tcp/{port}/{'https' if secure else 'http'}"
