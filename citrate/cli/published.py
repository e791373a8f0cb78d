"""How `register-model` and `add-variant` tell their result."""

from __future__ import annotations

from citrate.cli import context
from citrate.cli.sizes import human_cost, human_size
from citrate.core.records import PROFILE
from citrate.registry.publishing import Published


def show(result: Published) -> None:
    """Print what was published, or would be, or stands already."""
    context.emit(document(result), lambda: _human(result))


def document(result: Published) -> dict[str, object]:
    """The JSON of CLI.md."""
    return {
        "ref": result.ref,
        "model_id": result.model_id or None,
        "version_id": result.version_id or None,
        "status": result.status,
        "tx_hash": result.tx_hash or None,
        "taken_up": result.taken_up,
        "gas_used": result.gas_used,
        "fee_wei": result.fee_wei,
        "dry_run": result.status == "dry_run",
        "manifest": {
            "cid": result.manifest_cid or None,
            "sha256": result.manifest_sha256 or None,
            "size_bytes": result.manifest_size_bytes or None,
        },
        "variants": [
            {
                "variant": entry.variant,
                "cid": entry.cid,
                "sha256": entry.sha256,
                "size_bytes": entry.size_bytes,
                "files": len(entry.files),
                "profile": entry.profile or PROFILE,
            }
            for entry in result.entries
        ],
        "skipped": [{"variant": str(variant), "reason": reason} for variant, reason in result.skipped],
    }


def _human(result: Published) -> None:
    rows = [(e.variant, human_size(e.size_bytes), e.sha256[:16] + "…", e.cid) for e in result.entries]
    context.table(rows, ("VARIANT", "SIZE", "SHA-256", "CID"))
    for variant, reason in result.skipped:
        context.talk(f"skipped {variant}: {reason}")
    fee = human_cost(result.gas_used, result.fee_wei)
    if result.status == "dry_run":
        context.talk(f"dry run: nothing was sent; publishing would take {fee}")
    elif result.status == "unchanged":
        context.talk("unchanged: the chain holds exactly these bytes")
    else:
        context.talk(f"recorded in one transaction {result.tx_hash}: {fee}")
        context.talk(result.reach)
    context.say(result.ref)
