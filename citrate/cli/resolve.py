"""`citrate resolve`: the chain's record of a version or an adapter."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from citrate.cli import context, records
from citrate.core.records import VersionRecord, variant_of

app = context.new_app()


@app.command()
def resolve(ref: Annotated[str, typer.Argument(metavar="REF", help="publisher/name[@version|:alias]")]) -> None:
    """Print what the chain says of a version or an adapter; nothing is downloaded.

    Example: citrate resolve me/tiny-llama:prod
    """
    registry = context.registry()
    named = registry.reference(ref)
    record = registry.find(named)
    if not isinstance(record, VersionRecord):
        from citrate.cli import adapters  # a model does not pay for it

        adapter, base = record, registry.chain.version(record.lora.base).ref
        context.emit(adapters.adapter_document(adapter, base), lambda: adapters.show_adapter(adapter, base))
        return
    if named.variant is not None:
        record = replace(record, variants=(variant_of(record, named.variant),))
    version = record
    context.emit(records.version_document(version), lambda: records.show_version(version))
