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
    context.emit(found, lambda: context.table(_rows(found)))


def _rows(found: dict[str, object]) -> list[tuple[str, str]]:
    """One line a fact; texts that fill pages (licence, chat template) stay in the JSON."""
    rows: list[tuple[str, str]] = []
    for name, value in found.items():
        if isinstance(value, dict):
            rows += [(f"{name}.{key}", str(item)) for key, item in value.items() if key != "text"]
        elif isinstance(value, list | tuple):
            rows += [(name, str(item)) for item in value]
        elif name != "chat_template":
            rows.append((name, str(value) or "-"))
    return rows
