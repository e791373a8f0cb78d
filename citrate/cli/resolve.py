"""`citrate resolve`: the chain's record of a version."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from citrate.cli import context, records
from citrate.core.records import variant_of

app = context.new_app()


@app.command()
def resolve(ref: Annotated[str, typer.Argument(metavar="REF", help="publisher/name[@version|:alias]")]) -> None:
    """Print what the chain says of a version; nothing is downloaded.

    Example: citrate resolve me/tiny-llama:prod
    """
    registry = context.registry()
    named = registry.reference(ref)
    record = registry.resolve(named)
    if named.variant is not None:
        record = replace(record, variants=(variant_of(record, named.variant),))
    context.emit(records.version_document(record), lambda: records.show_version(record))
