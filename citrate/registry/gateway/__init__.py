"""The store as an IPFS gateway over HTTP: trustless (blocks, CARs), and plain files and folders.

Source: https://specs.ipfs.tech/http-gateways/trustless-gateway/ and .../path-gateway/. A client that verifies needs to
trust nothing here; still every block is compared with its CID before it leaves. ``request`` reads what is asked for,
``handler`` decides who answers it, ``answers``, ``cars`` and ``pages`` make the answers, ``ranges`` cuts them.
"""

from citrate.registry.gateway.server import DEFAULT_PORT, make_server, serve

__all__ = ["DEFAULT_PORT", "make_server", "serve"]
