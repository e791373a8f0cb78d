"""`citrate merge`: adapters into their base, or models into one; a directory that `register-model` takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citrate.cli import arguments, context, progress
from citrate.cli.sizes import human_size
from citrate.core.adapters import SAFETENSORS
from citrate.core.errors import ConfigError

if TYPE_CHECKING:
    from citrate.fine_tuning.merging import Merged
    from citrate.formats.merging import Method
    from citrate.formats.merging_record import Parent

app = context.new_app()


@app.command()
def merge(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write the merged model.")],
    base: Annotated[
        str | None, typer.Option(metavar="REF|DIR", help="What the adapters were trained on; for ties of models, too.")
    ] = None,
    adapter: Annotated[
        list[str] | None, typer.Option(metavar="REF|DIR[=WEIGHT]", help="A LoRA; alone it has weight 1.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="REF|DIR[=WEIGHT]", help="A model; two or more, instead of adapters.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="cat, svd, ties, dare of adapters; slerp, ties of models. Default: cat, slerp.")
    ] = None,
    density: Annotated[float, typer.Option(help="ties, dare: the share of the changes that is kept.")] = 0.5,
    rank: Annotated[int, typer.Option(min=0, help="svd: the merged rank; 0: the largest of the adapters.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="dare: of the draw.")] = 0,
    license_: Annotated[str | None, typer.Option("--license", help="SPDX id, where the parents' differ.")] = None,
    from_: Annotated[list[str] | None, typer.Option("--from", metavar="URL", help="A gateway to fetch from.")] = None,
    allow: Annotated[str | None, typer.Option(help="deprecated,quarantined")] = None,
) -> None:
    """Merge LoRAs into the model they were trained on, or models of one base into one. Nothing is registered.

    Who has no weight gets an equal part of what the others leave of 1.

    Example: citrate merge --base me/tiny@1.0.0 --adapter me/polite=0.7 --adapter me/short=0.3 --out merged
    """
    from citrate.fine_tuning import merging
    from citrate.fine_tuning.parents import Named
    from citrate.formats.merging import How

    request = merging.Request(
        How(_method(method or ("slerp" if model else "cat")), density, rank, seed),
        out,
        base or "",
        tuple(map(Named.parse, adapter or ())),
        tuple(map(Named.parse, model or ())),
        license_,
    )
    with progress.bars() as on_progress:
        made = merging.merge(
            context.registry(), request, gateways=from_ or (), allow=arguments.allowed(allow), progress=on_progress
        )
    context.emit(_document(made), lambda: _human(made))


def _method(text: str) -> Method:
    from citrate.formats.merging import Method

    if text not in list(Method):
        raise ConfigError(f"--method {text[:40]!r} is not known", hint=f"one of {', '.join(Method)}")
    return Method(text)


def _document(made: Merged) -> dict[str, object]:
    """The JSON of CLI.md: as of `register-model`, of which a merge has no record on chain yet."""
    artifact = made.artifact
    base = next((parent for parent in made.record.parents if parent.kind == "base"), None)
    weighted = [parent for parent in made.record.parents if parent.kind != "base"]
    points = made.basis_points or (None,) * len(weighted)
    return {
        "path": str(made.path),
        "ref": None,
        "model_id": None,
        "version_id": None,
        "status": "merged",
        "tx_hash": None,
        "gas_used": None,
        "dry_run": False,
        "sha256": artifact.sha256,
        "size_bytes": artifact.size_bytes,
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
        "method": made.record.method,
        "settings": dict(made.record.settings),
        "licence": made.licence or None,
        "licences": [{"parent": name, "licence": licence or None} for name, licence in made.licences],
        "base": _parent(base) if base else None,
        "parents": [{**_parent(parent), "basis_points": each} for parent, each in zip(weighted, points, strict=True)],
        "base_version_id": (base.id if base else "") or None,
        "rank": made.rank,
        "alpha": made.alpha,
    }


def _parent(parent: Parent) -> dict[str, object]:
    told = (parent.ref or None, parent.id or None, parent.sha256, float(parent.weight) if parent.weight else None)
    return {"kind": parent.kind, **dict(zip(("ref", "id", "sha256", "weight"), told, strict=True))}


def _human(made: Merged) -> None:
    rows = [(p.kind, p.weight or "-", p.ref or f"{p.sha256[:16]}…") for p in made.record.parents]
    context.table([*rows, (made.record.method, human_size(made.artifact.size_bytes), made.artifact.sha256)])
    if not made.licence:
        context.talk("no parent states a licence: give one when you register it (--license)")
    context.talk(f"register it: citrate register-model {made.path} --name NAME")
    if made.basis_points:
        refs = [parent.ref for parent in made.record.parents if parent.kind == "adapter"]
        named = " ".join(f"--adapter {ref}={p / 10000:g}" for ref, p in zip(refs, made.basis_points, strict=True))
        context.talk(f"and record its parents on chain: citrate lora merge REF {named}")
    context.say(str(made.path))
