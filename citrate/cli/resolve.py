"""`citrate resolve`: the chain's record of a version."""

from __future__ import annotations

from typing import Annotated

import typer

from citrate.cli import context, records

app = context.new_app()


@app.command()
def resolve(ref: Annotated[str, typer.Argument(metavar="REF", help="publisher/name[@version|:alias]")]) -> None:
    """Print what the chain says of a version; nothing is downloaded.

    Example: citrate resolve me/tiny-llama:prod
    """
    record = context.registry().resolve(ref)
    context.emit(records.version_document(record), lambda: records.show_version(record))
