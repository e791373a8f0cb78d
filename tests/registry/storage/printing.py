"""Bytes that are asked for by a CID and printed, and a model of which some repeat."""

from __future__ import annotations

from pathlib import Path

from citrate.core.records import Artifact
from citrate.registry import by_cid
from citrate.registry.by_cid import ByteSpan
from citrate.registry.sources import Source
from citrate.registry.store import Store
from tests.registry.storage.conftest import CHUNK, pattern

SIZE = 5 * CHUNK + 17
WEIGHTS = pattern(SIZE)


def published(publisher: Store, model: Path) -> Artifact:
    """The model with larger weights and a file of four leaves that are one block, in the publisher's store."""
    (model / "sub" / "weights.bin").write_bytes(WEIGHTS)
    (model / "sub" / "zeros").write_bytes(bytes(4 * CHUNK))
    return publisher.add(model)


def printed(store: Store, sources: list[Source], cid: object, path: str = "", span: ByteSpan | None = None) -> bytes:
    return b"".join(by_cid.cat(store, sources, str(cid), path, span))
