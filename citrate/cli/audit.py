"""`citrate audit`: prove that the node told every change of the contracts."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Annotated

import typer

from citrate.cli import context
from citrate.core.errors import ChainError
from citrate.registry.audit import Verdict
from citrate.registry.audit import audit as prove_all
from citrate.registry.changes import Change

app = context.new_app()


@app.command()
def audit(
    contract: Annotated[str, typer.Option(metavar="NAME", help="One contract, such as ModelRegistry.")] = "",
    list_: Annotated[bool, typer.Option("--list", help="Print every change, too.")] = False,
    at: Annotated[
        str, typer.Option(metavar="latest|safe|finalized", help="Default: finalized; on a devnet latest.")
    ] = "",
) -> None:
    """Fold every log of each contract and compare with its change root. Exit 5 if a log is missing or altered.

    Example: citrate audit --contract ModelRegistry --list
    """
    verdicts = prove_all(context.registry(), contract, at)
    ok = all(verdict.ok for verdict in verdicts)
    document = {"ok": ok, "contracts": [_document(verdict, list_) for verdict in verdicts]}

    def human() -> None:
        for verdict in verdicts if list_ else ():
            for change in verdict.proved.changes if verdict.proved else ():
                context.say(_line(change))
        context.table([_row(verdict) for verdict in verdicts], ("", "CONTRACT", "BLOCK", "CHANGES", "ROOT"))
        for verdict in verdicts:
            if verdict.error:
                context.talk(f"{verdict.place.contract}: {verdict.error.message}")
                context.talk(f"hint: {verdict.error.hint}")

    context.emit(document, human)
    if not ok:
        raise typer.Exit(ChainError.exit_code)


def _document(verdict: Verdict, with_changes: bool) -> dict[str, object]:
    proved = verdict.proved
    document: dict[str, object] = {
        "name": verdict.place.contract,
        "address": verdict.place.address or None,
        "ok": verdict.ok,
        "block": proved.cursor.block_number if proved else None,
        "changes": proved.cursor.count if proved else None,
        "root": proved.cursor.root if proved else None,
        "reason": verdict.error.message if verdict.error else None,
    }
    if with_changes and proved:
        document["log"] = [
            {"event": type(change.event).__name__, **_told(change), **_place(change)} for change in proved.changes
        ]
    return document


def _place(change: Change) -> dict[str, object]:
    return {"block": change.block_number, "tx_hash": change.tx_hash, "log_index": change.log_index}


def _told(change: Change) -> dict[str, object]:
    return {key.rstrip("_"): value for key, value in asdict(change.event).items()}


def _row(verdict: Verdict) -> tuple[str, ...]:
    proved = verdict.proved
    if proved is None:
        return ("BAD", verdict.place.contract, "", "", "")
    return ("ok", proved.contract, str(proved.cursor.block_number), str(proved.cursor.count), proved.cursor.root)


def _line(change: Change) -> str:
    values = " ".join(f"{each.name.rstrip('_')}={getattr(change.event, each.name)}" for each in fields(change.event))
    return f"{change.block_number}  {change.contract}  {type(change.event).__name__}  {values}"
