"""`citrate verify-contracts`: recompile the contracts and compare them with the chain's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from citrate.cli import context

app = context.new_app()


@app.command()
def verify_contracts(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[CONTRACT]...", help="Only these, such as ModelRegistry.")
    ] = None,
    authority: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Who governs, where the settings do not say.")
    ] = None,
    solc: Annotated[
        Path | None, typer.Option("--solc", metavar="PATH", help="A Solidity compiler of the right version.")
    ] = None,
) -> None:
    """Compile the packaged sources with solc and compare every byte with the deployed code. Exit 3 if one differs.

    Example: citrate verify-contracts --network base
    """
    verdicts = context.registry(authority=authority).verify_contracts(names or (), solc)
    ok = all(verdict.ok for verdict in verdicts)
    document: dict[str, object] = {
        "ok": ok,
        "contracts": [
            {"name": each.name, "address": each.address, "ok": each.ok, "reason": each.reason or None}
            for each in verdicts
        ],
    }

    def human() -> None:
        rows = [("ok" if each.ok else "NO", each.name, each.address, each.reason) for each in verdicts]
        context.table(rows)
        context.say("ok" if ok else "NOT what the sources say")

    context.emit(document, human)
    if any(not verdict.ok and not verdict.missing for verdict in verdicts):
        raise typer.Exit(3)
    if not ok:
        raise typer.Exit(4)
