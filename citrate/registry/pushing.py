"""Copying what is published from the embedded store to a Kubo node."""

from __future__ import annotations

from citrate.core.adapters import LoraRecord
from citrate.core.records import Reference, variant_of
from citrate.core.sink import Progress
from citrate.registry.kubo import Kubo
from citrate.registry.manifest import cid_of
from citrate.registry.session import Session


def push(session: Session, ref: Reference, api: str, progress: Progress | None) -> tuple[tuple[str, str], ...]:
    """Copy a version with its manifest, one of its variants, or an adapter to a Kubo node and pin it there.

    Returns:
        (what, CID) of each object that the node confirmed.

    Raises:
        NotFoundError: a variant is not in the store.
        IntegrityError: the node reports another CID than ours.
    """
    record = session.find(ref)
    if isinstance(record, LoraRecord):
        objects = [("adapter", record.lora.cid)]
    else:
        session.manifest(record)
        wanted = [variant_of(record, ref.variant)] if ref.variant else record.variants
        objects = [(str(variant.variant), variant.cid) for variant in wanted]
        objects.append(("manifest", cid_of(record.manifest_sha256)))
    kubo = Kubo(api)
    for _, cid in objects:
        kubo.push(session.store, cid, progress)
    return tuple(objects)
