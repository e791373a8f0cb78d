"""`citrate deprecate`: mark a version as superseded."""

from __future__ import annotations

from typing import Annotated

import typer

from citrate.cli import context

app = context.new_app()


@app.command()
def deprecate(
    ref: Annotated[str, typer.Argument(metavar="REF", help="The version.")],
    replacement: Annotated[str | None, typer.Option(metavar="REF", help="What to use instead.")] = None,
) -> None:
    """Mark a version as superseded. It stays readable; `pull` and `run` then want --allow deprecated.

    Example: citrate deprecate me/tiny-llama@1.0.0 --replacement me/tiny-llama@1.0.1
    """
    registry = context.registry()
    record = registry.resolve(ref)
    instead = registry.resolve(replacement).ref if replacement else None
    receipt = registry.deprecate(ref, replacement)
    document: dict[str, object] = {"ref": record.ref, "replacement": instead, **context.receipt_document(receipt)}
    context.emit(document, lambda: context.say(f"deprecated {record.ref}" + (f", use {instead}" if instead else "")))
