"""Fetching adapters and verifying them, with what the chain says compared byte for byte.

An adapter is a flat folder, recorded by its CID, its digest and its size. It has no manifest: its folder's block names
every file, and the digest on chain is that of the listing of all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from citrate.core.adapters import LoraRecord
from citrate.core.digests import listing_sha256
from citrate.core.errors import FormatError, NotFoundError
from citrate.core.records import FileEntry
from citrate.core.sink import Progress
from citrate.formats.adapter import WEIGHTS, Adapter, open_adapter, texts
from citrate.formats.adapter_config import CONFIG, require_published
from citrate.formats.adapter_weights import require_trained
from citrate.formats.documents import inside, read_object
from citrate.registry.attempts import mismatch
from citrate.registry.fetching import fetch_artifact, read_folder
from citrate.registry.retrieve import FileVerdict, Pulled, verify_path
from citrate.registry.store.pins import PULLED
from citrate.registry.unixfs import address

if TYPE_CHECKING:
    from citrate.registry.session import Session
    from citrate.registry.sources import Source


def pull(session: Session, record: LoraRecord, sources: Sequence[Source], progress: Progress | None = None) -> Pulled:
    """Fetch an adapter into the store, verified against the chain, and see that it is what its record tells.

    Raises:
        IntegrityError: a byte is not what the chain says; nothing of it is kept.
        FormatError: the bytes are right, but they are no adapter, or another one than the record tells.
        StoreError: no source has it.
    """
    lora, store = record.lora, session.store
    expected = read_folder(lora.cid, lora.sha256, lora.size_bytes, store, sources)
    if not store.has(expected.cid):
        store.make_room(expected.size_bytes)
    fetched = fetch_artifact(expected, store, sources, progress)
    _require_as_told(open_adapter(fetched.path), record)
    store.pin(lora.cid, PULLED + record.ref)
    return Pulled(fetched.path, record.variant, fetched.source, fetched.fetched_bytes, fetched.dropped)


def published_digest(adapter: Adapter) -> str:
    """The digest that an adapter has once it is registered; nothing is stored.

    Raises:
        FormatError: weights that would be refused then.
    """
    require_trained(inside(adapter.root, WEIGHTS))
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in texts(adapter).items()}
    hashes[WEIGHTS] = address(inside(adapter.root, WEIGHTS)).sha256
    return listing_sha256(FileEntry(name, 0, sha256, "") for name, sha256 in hashes.items())


def verify(session: Session, record: LoraRecord, path: Path | None) -> tuple[FileVerdict, ...]:
    """Re-hash an adapter's files, at ``path`` or in the store, against the chain.

    Where the adapter is stored here each file has its verdict; elsewhere the folder has one.

    Raises:
        NotFoundError: it is not stored here, or there is no such path.
        IntegrityError: what is stored under the record's CID has another digest than the record tells.
    """
    store, lora = session.store, record.lora
    if store.has(lora.cid):
        expected = store.artifact(lora.cid)
        if (expected.sha256, expected.size_bytes) != (lora.sha256, lora.size_bytes):
            raise mismatch(f"{record.ref}: its CID names other bytes", record.ref, lora.sha256, expected.sha256)
        return verify_path(path or store.stored(lora.cid).path, expected)
    if path is None:
        raise NotFoundError(f"nothing of {record.ref} is stored here", hint=f"citrate pull {record.ref}")
    found = address(path)
    ok = (found.cid, found.sha256) == (lora.cid, lora.sha256)
    return (FileVerdict(".", ok, lora.sha256, found.sha256),)


def _require_as_told(adapter: Adapter, record: LoraRecord) -> None:
    require_published(read_object(adapter.root, CONFIG), adapter.config)
    require_trained(inside(adapter.root, WEIGHTS))
    lora = record.lora
    modules = set(adapter.target_modules)
    told = (lora.rank, lora.alpha_thousandths, set(lora.target_modules))
    if (adapter.rank, adapter.alpha_thousandths, modules) != told:
        raise FormatError(
            f"{record.ref} tells rank {lora.rank}, alpha {lora.alpha:g}, {', '.join(lora.target_modules)}; "
            f"its files have rank {adapter.rank}, alpha {adapter.alpha_thousandths / 1000:g}, "
            f"{', '.join(sorted(modules))}",
            hint="its creator recorded it wrong: do not use it",
        )
