"""`citrate dataset`: training data, checked row by row and named by what it says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citrate.cli import arguments, context, progress
from citrate.cli.sizes import human_size

if TYPE_CHECKING:
    from citrate.training.dataset import Card

app = context.new_app(no_args_is_help=True)


@app.callback()
def dataset() -> None:
    """Training data: checked row by row, named by the Merkle root of its rows."""


@app.command()
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON Lines, a row a line.")],
    method: Annotated[str, typer.Option(help="What it is for: sft, dpo, reward, grpo, rloo or kto.")],
    licence: Annotated[str, typer.Option("--license", metavar="SPDX", help="Under which licence it is.")],
) -> None:
    """Check a file of rows and keep it as a dataset; prints its CID.

    sft: text, or prompt + completion, or messages. dpo, reward: chosen + rejected, with prompt or without.
    grpo, rloo: prompt. kto: prompt + completion + label, rows of both labels.
    In a conversation that is learnt from, the assistant says something.

    Example: citrate dataset add pairs.jsonl --method dpo --license apache-2.0
    """
    registry = context.registry()
    with progress.bars() as on_progress:
        card, artifact = registry.add_dataset(file, method=method, licence=licence, progress=on_progress)
    document = {"cid": artifact.cid, "sha256": artifact.sha256, "size_bytes": artifact.size_bytes, **_document(card)}

    def human() -> None:
        context.talk(f"{_said(card)}, {human_size(artifact.size_bytes)}, Merkle root {card.root}")
        context.say(artifact.cid)

    context.emit(document, human)


@app.command()
def show(
    where: Annotated[str, typer.Argument(metavar="CID|DIR", help="A dataset of the store, or its folder.")],
) -> None:
    """Hold a dataset's rows against its card, and show it.

    Example: citrate dataset show bafybei...
    """
    if not where or not Path(where).is_dir():
        where = arguments.cid(where)
    card, folder = context.registry().dataset(where)

    def human() -> None:
        context.table([("rows", _said(card)), ("licence", card.licence), ("root", card.root), ("path", str(folder))])

    context.emit({"path": str(folder), **_document(card)}, human)


def _said(card: Card) -> str:
    kind = "conversations" if card.conversational else "text"
    return f"{card.rows} {'row' if card.rows == 1 else 'rows'} for {card.method}: {' + '.join(card.columns)} ({kind})"


def _document(card: Card) -> dict[str, object]:
    return {
        "root": card.root,
        "rows": card.rows,
        "method": str(card.method),
        "columns": list(card.columns),
        "conversational": card.conversational,
        "licence": card.licence,
    }
