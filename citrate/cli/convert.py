"""`citrate convert`: one conversion, checked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from citrate.cli import arguments, context, progress
from citrate.core.records import Variant

app = context.new_app()


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A model directory, or an adapter of PEFT or mlx-lm.")],
    to: Annotated[
        str, typer.Option(metavar="VARIANT", help="Such as gguf:Q4_K_M; of adapters safetensors, mlx, gguf.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where to write; default: beside the working folder's files.")
    ] = None,
    checks: Annotated[
        str | None, typer.Option(help="full or tensors; default: by the model's size; of an adapter tensors.")
    ] = None,
    base: Annotated[Path | None, typer.Option(help="Of an adapter: the model directory it was trained on.")] = None,
) -> None:
    """Convert a model or an adapter to one variant, check it, and write it to PATH. Nothing is stored or registered.

    Example: citrate convert ./tiny-llama --to gguf:Q4_K_M --out ./out
    """
    from citrate.formats.encoding import OURS
    from citrate.registry.converting import convert_to_path

    started = time.monotonic()
    variant = Variant.parse(to)
    with progress.bars() as on_progress:
        made = convert_to_path(source, variant, out, arguments.check_level(checks), on_progress, base)
    document: dict[str, object] = {
        "path": str(made.path),
        "variant": str(variant),
        "sha256": made.artifact.sha256,
        "size_bytes": made.artifact.size_bytes,
        "seconds": round(time.monotonic() - started, 3),
        "checks": {c.name: {"passed": c.passed, "value": c.value, "limit": c.limit} for c in made.checks},
        "encoders": {name: encoder.name for name, encoder in made.encoders.items()},
    }

    def human() -> None:
        context.table(
            [(c.name, "ok" if c.passed else "FAILED", f"{c.value} (limit {c.limit or '-'})") for c in made.checks]
        )
        for name, encoder in made.encoders.items():
            if encoder.name != OURS:
                context.talk(f"{name} was encoded by {encoder.name}: {encoder.reason}")
        context.say(str(made.path))

    context.emit(document, human)
