"""`citrate alias`: movable names for versions, with their history."""

from __future__ import annotations

from typing import Annotated

import typer

from citrate.cli import context

app = context.new_app(no_args_is_help=True)


@app.callback()
def alias() -> None:
    """Movable names for versions. `latest` is computed: the newest release that is not deprecated."""


@app.command("set")
def set_(
    ref: Annotated[str, typer.Argument(metavar="REF", help="The version.")],
    name: Annotated[str, typer.Argument(help="The alias.")],
) -> None:
    """Point an alias at a version.

    Example: citrate alias set me/tiny-llama@1.0.0 prod
    """
    registry = context.registry()
    record = registry.resolve(ref)
    receipt = registry.set_alias(ref, name)
    document: dict[str, object] = {
        "ref": record.ref,
        "alias": name,
        "version_id": record.version_id,
        "block": receipt and receipt.block_number,
        **context.change_document(receipt),
    }
    told = f"{record.publisher}/{record.name}:{name} -> {record.version}"
    context.emit(document, lambda: context.say(told if receipt else f"{told} (unchanged)"))


@app.command()
def log(ref: Annotated[str, typer.Argument(metavar="REF", help="publisher/name:alias")]) -> None:
    """Print every change of an alias, oldest first: complete, or an error.

    Example: citrate alias log me/tiny-llama:prod
    """
    registry = context.registry()
    named = registry.reference(ref)
    changes = registry.alias_log(named)
    rows = [
        {
            "ref": f"{named.publisher}/{named.name}@{change.version}",
            "alias": named.alias,
            "version_id": change.version_id,
            "block": change.block_number,
            "tx_hash": change.tx_hash,
        }
        for change in changes
    ]

    def human() -> None:
        context.table(
            [(str(c.block_number), c.tx_hash, c.version) for c in changes], ("BLOCK", "TRANSACTION", "VERSION")
        )

    context.emit({"ref": str(named), "alias": named.alias, "changes": rows}, human)
