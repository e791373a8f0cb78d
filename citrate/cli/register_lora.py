"""`citrate register-lora`: an adapter directory becomes a record on chain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from citrate.cli import arguments, context, progress
from citrate.cli.sizes import human_cost, human_size
from citrate.core.adapters import SAFETENSORS, Training
from citrate.core.errors import ConfigError
from citrate.fine_tuning import training_of
from citrate.fine_tuning.told import TOLD
from citrate.registry.lora_publishing import Registered

app = context.new_app()


@app.command()
def register_lora(
    source: Annotated[Path, typer.Argument(metavar="ADAPTER_DIR", help="What PEFT's save_pretrained leaves.")],
    base: Annotated[str, typer.Option(metavar="REF", help="The model version it was trained on.")],
    name: Annotated[str, typer.Option(help="The adapter's name: a-z 0-9 . _ -, at most 64.")],
    version: Annotated[str, typer.Option(help="The version's name.")] = "1.0.0",
    license_: Annotated[str | None, typer.Option("--license", help="SPDX id; default: the adapter's card.")] = None,
    steps: Annotated[int, typer.Option(min=0, help="Training steps; 0: not told.")] = 0,
    dataset: Annotated[str | None, typer.Option(metavar="HASH", help="Merkle root of the dataset.")] = None,
    recipe: Annotated[str | None, typer.Option(metavar="HASH", help="SHA-256 of the recipe.")] = None,
    proof: Annotated[str | None, typer.Option(metavar="ROOT", help="Merkle root of the training steps.")] = None,
    run: Annotated[int, typer.Option(metavar="N", help="The ledger's run that tells all this.")] = 0,
    from_: Annotated[
        list[str] | None, typer.Option("--from", metavar="URL", help="A gateway that has the base's manifest.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, store and tell; send nothing.")] = False,
) -> None:
    """Check a LoRA adapter against its base, store it, and record it in one transaction. At most ten a day.

    What `citrate train` made says itself how: the dataset, the recipe, the proof, the steps and the ledger's run.

    Example: citrate register-lora ./adapter --base me/tiny-llama@1.0.0 --name tiny-lora --license apache-2.0
    """
    registry = context.registry()
    training = Training(
        arguments.hash_of(dataset, "--dataset"),
        arguments.hash_of(recipe, "--recipe"),
        arguments.hash_of(proof, "--proof"),
        run,
    )
    if not dry_run:
        registry.start_chain()
    found = training_of(registry, source, base)
    if found is not None:
        if training not in (Training(), found[0]):
            raise ConfigError(
                f"{source / TOLD} says how the adapter was trained, and the options say something else",
                hint="leave away --dataset, --recipe, --proof and --run; citrate verify-training tells what is true",
            )
        training, steps = found
    with progress.bars() as on_progress:
        result = registry.register_lora(
            source,
            base=base,
            name=name,
            version=version,
            licence=license_,
            steps=steps,
            training=training,
            gateways=from_ or (),
            dry_run=dry_run,
            progress=on_progress,
        )
    context.emit(_document(result), lambda: _human(result))


def _document(result: Registered) -> dict[str, object]:
    """The JSON of CLI.md: as of `register-model`. An adapter belongs to no model and has no manifest."""
    artifact = result.artifact
    return {
        "ref": result.ref,
        "model_id": None,
        "version_id": result.lora_id or None,
        "status": result.status,
        "tx_hash": result.tx_hash or None,
        "taken_up": result.taken_up,
        "gas_used": result.gas_used,
        "fee_wei": result.fee_wei,
        "dry_run": result.dry_run,
        "manifest": {"cid": None, "sha256": None, "size_bytes": None},
        "variants": [
            {
                "variant": str(SAFETENSORS),
                "cid": artifact.cid,
                "sha256": artifact.sha256,
                "size_bytes": artifact.size_bytes,
                "files": len(artifact.files),
            }
        ],
        "skipped": [],
        "left_out": list(result.left_out),
        "base_version_id": result.base.version_id,
        "base_ref": result.base.ref,
        "base_sha256": result.lora.base_sha256,
        "rank": result.lora.rank,
        "alpha": result.lora.alpha,
        "target_modules": list(result.lora.target_modules),
    }


def _human(result: Registered) -> None:
    lora, artifact = result.lora, result.artifact
    context.table(
        [
            ("base", result.base.ref),
            ("rank, alpha", f"{lora.rank}, {lora.alpha:g}"),
            ("modules", ", ".join(lora.target_modules)),
            ("files", f"{len(artifact.files)}, {human_size(artifact.size_bytes)}"),
            ("SHA-256", artifact.sha256),
            ("CID", artifact.cid),
        ]
    )
    if result.left_out:
        context.talk(f"not published: {', '.join(result.left_out)}")
    fee = human_cost(result.gas_used, result.fee_wei)
    if result.dry_run:
        context.talk(f"dry run: nothing was sent; recording would take {fee}")
    elif result.status == "unchanged":
        context.talk("unchanged: the chain holds exactly this adapter")
    else:
        context.talk(f"recorded in one transaction {result.tx_hash}: {fee}")
        context.talk(
            f"warning: only this machine has the bytes; next: citrate gateway, or citrate push {result.ref} --to kubo"
        )
    context.say(result.ref)
