"""`citrate train`: a recipe becomes an adapter and a proof of how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from citrate.cli import arguments, context, health, progress

if TYPE_CHECKING:
    from citrate.fine_tuning import Trained

app = context.new_app()


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML file; see docs/training.md.")],
    out: Annotated[Path | None, typer.Option(help="The run's folder; default: the recipe's name, beside you.")] = None,
    announce: Annotated[
        bool, typer.Option("--announce", help="Record the run in the ledger: before it begins, and its outcome.")
    ] = False,
    merged: Annotated[
        bool, typer.Option("--merged", help="Of a reward model: write it merged into its base too, for grpo and rloo.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg|FILE.png", help="Draw loss, gradient norm and reward.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
    from_: Annotated[list[str] | None, typer.Option("--from", metavar="URL", help="A gateway to fetch from.")] = None,
    allow: Annotated[str | None, typer.Option(help="deprecated,quarantined")] = None,
) -> None:
    """Fine-tune a verified base on a verified dataset; every step is committed to. Run again, it goes on.

    Example: citrate train examples/recipes/sft-recipe.yaml --out run
    """
    from citrate import fine_tuning
    from citrate.training import recipe as recipes

    registry = context.registry()
    wanted = recipes.load(recipe)
    health.require_drawable(plot)
    if merged:
        fine_tuning.require_reward(wanted.method)
    target = out or Path(recipe.stem.removesuffix("-recipe"))
    with progress.bars() as on_progress:
        prepared = fine_tuning.prepare(
            registry, wanted, recipe.parent, gateways=from_ or (), allow=arguments.allowed(allow), progress=on_progress
        )
        tokens = 0

        def told(step: Mapping[str, Any]) -> None:
            nonlocal tokens
            if on_progress is not None:
                tokens += step["tokens"]
                rate = tokens / max(step["seconds"], 1e-9)
                on_progress("train", step["step"], wanted.steps, f"loss {step['loss']:.4g}, {rate:.0f} tokens/s")

        done = fine_tuning.train(
            registry, prepared, target, announce=announce, threads=threads, on_step=told, on_notes=_note
        )
        judge = fine_tuning.merged(done, prepared) if merged else None
    if plot is not None:
        health.draw(done.health, target.name, plot)
    context.emit(_document(done, judge), lambda: _human(done, judge))


def _note(notes: Sequence[str]) -> None:
    for each in notes:
        context.talk(f"note: {each}")


def _document(done: Trained, judge: Path | None) -> dict[str, object]:
    return {
        "adapter_path": str(done.adapter),
        "proof_root": done.proof.root,
        "steps": done.proof.steps,
        "final_loss": done.final_loss,
        "recipe_sha256": done.proof.recipe_sha256,
        "dataset_root": done.proof.dataset_root,
        "base_sha256": done.proof.base_sha256,
        "proof_cid": done.proof_cid,
        "dataset_cid": done.dataset_cid,
        "run_id": done.run_id or None,
        "merged_path": str(judge) if judge else None,
        "notes": health.notes(done.health),
        "health": health.health_document(done.health),
    }


def _human(done: Trained, judge: Path | None) -> None:
    context.talk(f"{done.proof.steps} steps, loss {done.final_loss:.4g}, proof {done.proof.root}")
    health.talk(done.health)
    if judge is not None:
        context.talk(f"train with it by grpo or rloo: reinforcement: {{reward_model: {judge}}}")
    else:
        base = done.base_ref or "REF"
        context.talk(f"register it: citrate register-lora {done.adapter} --base {base} --name NAME --license SPDX")
        if not done.base_ref:
            context.talk("note: it was trained on a folder; REF is a version of just these bytes, or is refused")
    context.say(str(judge or done.adapter))
