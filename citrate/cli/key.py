"""`citrate key`: encrypted keystores; nothing in the clear."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from citrate.cli import context
from citrate.core.errors import NotFoundError
from citrate.registry.keys import KeyEntry

app = context.new_app(no_args_is_help=True)


@app.callback()
def key() -> None:
    """Keys that sign: encrypted keystores in the home; passwords come from the terminal or the environment."""


@app.command()
def new(name: Annotated[str, typer.Option(help="What the key is called here.")] = "default") -> None:
    """Make a key.

    Example: CITRATE_KEY_PASSWORD_FILE=~/.password citrate key new --name laptop
    """
    _show(context.registry().keys.create(name))


@app.command("import")
def import_(
    source: Annotated[str, typer.Argument(help="A keystore or a file with a private key in hex; - for stdin.")],
    name: Annotated[str, typer.Option(help="What the key is called here.")] = "default",
) -> None:
    """Take over a key; it is encrypted before it is stored.

    Example: citrate key import ./keystore.json --name laptop
    """
    if source != "-" and not Path(source).is_file():
        raise NotFoundError(f"no such file: {source}", hint="citrate key import FILE, or - for stdin")
    text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8", errors="replace")
    _show(context.registry().keys.import_key(text, name))


@app.command("list")
def list_() -> None:
    """List the keys.

    Example: citrate key list
    """
    keys = context.registry().keys.list()

    def human() -> None:
        rows = [
            ("*" if k.active else "", k.name, k.address + (" (devnet only)" if k.devnet_only else "")) for k in keys
        ]
        context.table(rows, ("", "NAME", "ADDRESS"))

    context.emit({"keys": [_document(k) for k in keys]}, human)


@app.command()
def use(which: Annotated[str, typer.Argument(help="Name or address.")]) -> None:
    """Choose the active key: `me`.

    Example: citrate key use laptop
    """
    _show(context.registry().keys.use(which))


def _document(entry: KeyEntry) -> dict[str, object]:
    return {"address": entry.address, "name": entry.name, "active": entry.active}


def _show(entry: KeyEntry) -> None:
    context.emit(
        _document(entry), lambda: context.table([(entry.name, "active" if entry.active else "", entry.address)])
    )
