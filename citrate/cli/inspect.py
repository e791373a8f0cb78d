"""`citrate inspect`: what a model is; nothing of it is executed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from citrate.cli import context

app = context.new_app()


@app.command()
def inspect(path: Annotated[Path, typer.Argument(help="A model directory or a GGUF file.")]) -> None:
    """Print architecture, parameters, dtypes, tokenizer, licence and findings.

    Example: citrate inspect ./tiny-llama
    """
    from citrate import formats

    found = asdict(formats.inspect(path))

    def human() -> None:
        rows = []
        for name, value in found.items():
            if isinstance(value, dict):
                rows += [(f"{name}.{key}", str(item)) for key, item in value.items()]
            elif isinstance(value, list | tuple):
                rows += [(name, str(item)) for item in value]
            else:
                rows.append((name, str(value)))
        context.table(rows)

    context.emit(found, human)
