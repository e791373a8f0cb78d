"""`citrate inspect`: what a model is; nothing of it is executed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citrate.cli import context
from citrate.core.errors import FormatError

if TYPE_CHECKING:
    from citrate.formats import Inspection

app = context.new_app()


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="A model directory or a GGUF file.")],
    deep: Annotated[bool, typer.Option("--deep", help="Read all weights too, for NaN and infinite ones.")] = False,
    chat_template: Annotated[
        bool, typer.Option("--chat-template", help="Print the chat template, and what it makes of a message.")
    ] = False,
) -> None:
    """Print architecture, parameters, dtypes, tokenizer, licence and findings.

    Nothing of the model is run, but its chat template, once, in a process that can reach nothing.

    Example: citrate inspect ./tiny-llama --deep
    """
    from citrate import formats

    try:
        found = formats.examine(path, deep=deep)
    except FormatError as error:
        if error.hint == FormatError.usual_hint:  # which says to inspect it
            error.hint = "mend that file, or download the model again"
        raise
    document: dict[str, object] = asdict(found)
    context.emit(document, lambda: _show_template(found) if chat_template else context.table(_rows(document)))


def _show_template(found: Inspection) -> None:
    """The template and what it makes of a message, with the lines that each of them has."""
    context.talk(f"chat template, SHA-256 {found.chat_template_sha256 or '-'}:")
    for line in found.chat_template.splitlines():
        context.say(line.expandtabs(4))
    context.talk("what it makes of a message:")
    for line in found.chat_template_example.splitlines():
        context.talk(context.printable(line.expandtabs(4)))


def _rows(found: dict[str, object]) -> list[tuple[str, str]]:
    """One line a fact; texts that fill pages (licence, chat template) stay in the JSON."""
    rows: list[tuple[str, str]] = []
    for name, value in found.items():
        if isinstance(value, dict):
            rows += [(f"{name}.{key}", str(item)) for key, item in value.items() if key != "text"]
        elif isinstance(value, list | tuple):
            rows += [(name, str(item)) for item in value]
        elif name not in ("chat_template", "chat_template_example"):
            rows.append((name, str(value) or "-"))
    return rows
