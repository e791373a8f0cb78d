"""Where bytes come from: gateways, Kubo nodes, other stores. What they give is hostile until its hash matched.

A source returns bytes unverified and says in one word why it cannot; trying the next one, retrying and verifying is
``fetch``'s work.
"""

from citrate.registry.sources.gateway import GatewaySource
from citrate.registry.sources.kubo import KuboSource
from citrate.registry.sources.local import StoreSource
from citrate.registry.sources.pace import Limit, LimitedSource
from citrate.registry.sources.protocol import (
    ByteStream,
    MissingError,
    NoStreamError,
    Source,
    SourceError,
    UnansweredError,
    fill,
)

__all__ = [
    "ByteStream",
    "GatewaySource",
    "KuboSource",
    "Limit",
    "LimitedSource",
    "MissingError",
    "NoStreamError",
    "Source",
    "SourceError",
    "StoreSource",
    "UnansweredError",
    "fill",
]
