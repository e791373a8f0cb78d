"""How adapters and merges are told by the commands that read the registry."""

from __future__ import annotations

from citrate.cli import context
from citrate.cli.records import variant_document
from citrate.cli.sizes import human_size
from citrate.core.adapters import SAFETENSORS, Lora, LoraRecord, MergeRecord
from citrate.core.records import Status


def adapter_document(record: LoraRecord, base_ref: str) -> dict[str, object]:
    """An adapter as JSON: the keys of a version, and those of its own."""
    lora, training = record.lora, record.lora.training
    return {
        "ref": record.ref,
        "kind": "adapter",
        "model_id": None,
        "version_id": record.lora_id,
        "publisher": record.creator,
        "name": lora.name,
        "version": lora.version,
        "manifest": None,
        "variants": [variant_document(record.variant)],
        "licence": lora.licence,
        "created_at": record.created_at,
        "deprecated": False,
        "quarantined": record.quarantined,
        "status": record.status,
        "base_version_id": lora.base,
        "base_ref": base_ref,
        "base_sha256": lora.base_sha256,
        "rank": lora.rank,
        "alpha": lora.alpha,
        "target_modules": list(lora.target_modules),
        "steps": lora.steps or None,
        "training": {
            "dataset": training.dataset or None,
            "recipe": training.recipe or None,
            "proof_root": training.proof_root or None,
            "run": training.run_id or None,
            "confirmed": training.confirmed,
        },
        "block_number": record.block_number,
    }


def show_adapter(record: LoraRecord, base_ref: str) -> None:
    """An adapter for people."""
    lora = record.lora
    context.say(record.ref if record.status in (None, Status.ACTIVE) else f"{record.ref}  {record.status.upper()}")
    context.table(
        [
            ("adapter of", base_ref),
            ("base SHA-256", lora.base_sha256),
            ("rank, alpha", f"{lora.rank}, {lora.alpha:g}"),
            ("modules", ", ".join(lora.target_modules)),
            ("licence", lora.licence),
            ("training", _training(lora)),
            ("block", str(record.block_number)),
        ]
    )
    row = (str(SAFETENSORS), human_size(lora.size_bytes), lora.sha256[:16] + "…", lora.cid)
    context.table([row], ("VARIANT", "SIZE", "SHA-256", "CID"))


def merge_document(merge: MergeRecord) -> dict[str, object]:
    """From what a version was merged, as JSON."""
    return {
        "base_version_id": merge.base,
        "by": merge.creator,
        "parents": [{"lora_id": parent.lora_id, "basis_points": parent.basis_points} for parent in merge.parents],
        "created_at": merge.created_at,
    }


def _training(lora: Lora) -> str:
    training = lora.training
    steps = f"{lora.steps} steps, " if lora.steps else ""
    if training.run_id:
        word = "confirmed by" if training.confirmed else "NOT confirmed by"
        return f"{steps}{word} run {training.run_id}"
    if not training.recipe:
        return f"{steps}not told"
    proof = f"proof {training.proof_root[:16]}…" if training.proof_root else "no proof"
    return f"{steps}recipe {training.recipe[:16]}…, dataset {training.dataset[:16]}…, {proof}, told by its creator"
