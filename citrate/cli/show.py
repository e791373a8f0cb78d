"""`citrate show`: all that the registry holds of one model, or of one adapter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citrate.cli import adapters, context, health, records
from citrate.core.adapters import LoraRecord
from citrate.core.errors import ConfigError, NotFoundError, UnavailableError
from citrate.core.records import PROFILE

if TYPE_CHECKING:
    from citrate.core.records import VersionRecord
    from citrate.facade import Registry
    from citrate.training.health import Health

app = context.new_app()


@app.command()
def show(
    ref: Annotated[str, typer.Argument(metavar="REF", help="A model, one of its versions, or an adapter.")],
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg|FILE.png", help="Of an adapter: draw its training.")
    ] = None,
) -> None:
    """Print a model: the version that REF names in full, every version, the aliases, the lineage. Or an adapter.

    Example: citrate show me/tiny-llama
    """
    health.require_drawable(plot)
    registry = context.registry()
    record = registry.find(ref)
    if isinstance(record, LoraRecord):
        _show_adapter(registry, record, plot)
    elif plot is not None:
        raise ConfigError(f"{record.ref} is a model: only the training of adapters is drawn", hint="leave out --plot")
    else:
        _show_version(registry, record)


def _show_adapter(registry: Registry, record: LoraRecord, plot: Path | None) -> None:
    base = registry.chain.version(record.lora.base)
    went = _health(registry, record)
    if plot is not None:
        if went is None:
            raise ConfigError(f"how {record.ref} was trained is not told", hint="leave out --plot")
        health.draw(went, record.ref, plot)
    document = {
        **adapters.adapter_document(record, base.ref),
        "base_status": base.status,
        "health": health.health_document(went) if went else None,
    }

    def human() -> None:
        adapters.show_adapter(record, base.ref)
        if went is not None:
            health.talk(went)

    context.emit(document, human)


def _health(registry: Registry, record: LoraRecord) -> Health | None:
    from citrate.fine_tuning import health_of

    if not (record.lora.training.proof_root or record.lora.training.run_id):
        return None
    try:
        return health_of(registry, record)
    except (UnavailableError, NotFoundError) as error:
        context.talk(f"health: not told, the proof is not here ({error.message})")
        return None


def _show_version(registry: Registry, record: VersionRecord) -> None:
    history = registry.versions(record)
    aliases = registry.aliases(record)
    merge = registry.loras.merge_if_any(record.version_id)
    acceptance = registry.loras.acceptance_if_any(record.model_id)
    lineage: dict[str, object] | None = None
    profiles: dict[str, str] = {}
    try:
        manifest = registry.manifest(record)
        lineage = manifest.lineage.model_dump(mode="json")
        profiles = {entry.variant: entry.profile or PROFILE for entry in manifest.variants}
    except UnavailableError as error:
        context.talk(f"lineage and profiles: not told, the manifest is not here ({error.message})")
    variants = [{**records.variant_document(v), "profile": profiles.get(str(v.variant))} for v in record.variants]
    document = {
        **records.version_document(record),
        "variants": variants,
        "owner": registry.owner(record),
        "acceptance": acceptance,
        "versions": [{"version": v.version, "version_id": v.version_id, "deprecated": v.deprecated} for v in history],
        "aliases": [{"alias": a.alias, "version": a.version} for a in aliases],
        "lineage": lineage,
        "merged_from": adapters.merge_document(merge) if merge else None,
    }

    def human() -> None:
        records.show_version(record)
        cut = [variant for variant, profile in profiles.items() if profile != PROFILE]
        if cut:
            context.table([("cut at tensors", ", ".join(cut))])
        if acceptance:
            context.table([("takes adapters", acceptance)])
        context.table(
            [(v.version, "deprecated" if v.deprecated else "") for v in history], ("VERSIONS (newest first)", "")
        )
        if aliases:
            context.table([(a.alias, a.version) for a in aliases], ("ALIAS", "VERSION"))
        if merge:
            rows = [(f"{parent.basis_points / 100:g} %", parent.lora_id) for parent in merge.parents]
            context.table(rows, ("MERGED FROM", "ADAPTER"))

    context.emit(document, human)
