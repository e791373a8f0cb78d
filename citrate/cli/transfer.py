"""`citrate transfer`: hand a model over, in two steps."""

from __future__ import annotations

from typing import Annotated

import typer

from citrate.cli import context

app = context.new_app(no_args_is_help=True)


@app.callback()
def transfer() -> None:
    """Hand a model over: the owner offers, the new owner accepts. The name stays under its publisher's address."""


@app.command()
def offer(
    ref: Annotated[str, typer.Argument(metavar="REF", help="publisher/name")],
    to: Annotated[str, typer.Argument(help="The new owner: an address or a name of the address book.")],
) -> None:
    """Offer a model.

    Example: citrate transfer offer me/tiny-llama 0x70997970C51812dc3A010C7d01b50e0d17dc79C8
    """
    receipt = context.registry().offer(ref, to)
    document: dict[str, object] = {"ref": ref, "to": to, **context.receipt_document(receipt)}
    context.emit(document, lambda: context.say(f"offered to {to}; next, there: citrate transfer accept REF"))


@app.command()
def accept(ref: Annotated[str, typer.Argument(metavar="REF", help="publisher/name")]) -> None:
    """Take over a model that was offered to the active key.

    Example: citrate transfer accept 0xf39F.../tiny-llama
    """
    receipt = context.registry().accept(ref)
    document: dict[str, object] = {"ref": ref, **context.receipt_document(receipt)}
    context.emit(document, lambda: context.say(f"{ref} is yours"))
