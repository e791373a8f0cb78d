"""`citrate show`: all that the registry holds of one model."""

from __future__ import annotations

from typing import Annotated

import typer

from citrate.cli import context, records
from citrate.core.errors import UnavailableError

app = context.new_app()


@app.command()
def show(ref: Annotated[str, typer.Argument(metavar="REF", help="A model or one of its versions.")]) -> None:
    """Print a model: the version that REF names in full, every version, the aliases, the lineage.

    Example: citrate show me/tiny-llama
    """
    registry = context.registry()
    record = registry.resolve(ref)
    history = registry.versions(record)
    aliases = registry.aliases(record)
    try:
        lineage: dict[str, object] | None = registry.manifest(record).lineage.model_dump(mode="json")
    except UnavailableError as error:
        context.talk(f"lineage: not told, the manifest is not here ({error.message})")
        lineage = None
    document = {
        **records.version_document(record),
        "owner": registry.owner(record),
        "versions": [{"version": v.version, "version_id": v.version_id, "deprecated": v.deprecated} for v in history],
        "aliases": [{"alias": a.alias, "version": a.version} for a in aliases],
        "lineage": lineage,
    }

    def human() -> None:
        records.show_version(record)
        context.table(
            [(v.version, "deprecated" if v.deprecated else "") for v in history], ("VERSIONS (newest first)", "")
        )
        if aliases:
            context.table([(a.alias, a.version) for a in aliases], ("ALIAS", "VERSION"))

    context.emit(document, human)
