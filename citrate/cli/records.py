"""How versions, variants and models are told by the commands that read the registry."""

from __future__ import annotations

from citrate.cli import context
from citrate.cli.sizes import human_size
from citrate.core.amounts import ether
from citrate.core.records import Status, VariantRecord, VersionRecord
from citrate.registry import cid


def variant_document(variant: VariantRecord) -> dict[str, object]:
    """A variant as JSON."""
    return {
        "variant": str(variant.variant),
        "cid": variant.cid,
        "sha256": variant.sha256,
        "size_bytes": variant.size_bytes,
    }


def version_document(record: VersionRecord) -> dict[str, object]:
    """A version as JSON: the keys of `resolve` in CLI.md, and more."""
    return {
        "ref": record.ref,
        "kind": "model",
        "model_id": record.model_id,
        "version_id": record.version_id,
        "publisher": record.publisher,
        "name": record.name,
        "version": record.version,
        "manifest": {
            "cid": cid.encode(cid.RAW, bytes.fromhex(record.manifest_sha256)),
            "sha256": record.manifest_sha256,
        },
        "variants": [variant_document(variant) for variant in record.variants],
        "licence": record.licence,
        "price_wei": record.price_now_wei,
        "created_at": record.created_at,
        "deprecated": record.deprecated,
        "replacement": record.replacement or None,
        "quarantined": record.quarantined,
        "status": record.status,
        "governed": record.governed,
        "block_number": record.block_number,
    }


def show_version(record: VersionRecord) -> None:
    """A version for people."""
    price = ether(record.price_now_wei) if record.price_now_wei else "free"
    marks = ["DEPRECATED"] if record.deprecated else []
    if record.status not in (None, Status.ACTIVE):
        marks.append(record.status.upper())
    context.say("  ".join([record.ref, *marks]))
    rows = [("licence", record.licence), ("price", price), ("block", str(record.block_number))]
    if record.governed is None:
        rows[1] = ("price", f"{price} when it was published")
        rows.append(("NOT looked at", "what it costs now, and moderation: no authority is set for this chain"))
    context.table(rows)
    variants = [(str(v.variant), human_size(v.size_bytes), v.sha256[:16] + "…", v.cid) for v in record.variants]
    context.table(variants, ("VARIANT", "SIZE", "SHA-256", "CID"))
