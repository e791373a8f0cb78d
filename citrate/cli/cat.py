"""`citrate cat`: print a file of the store, verified."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citrate.cli import context
from citrate.core.errors import ConfigError, NotFoundError

if TYPE_CHECKING:
    from citrate.registry.store import Store

app = context.new_app()


@app.command()
def cat(target: Annotated[str, typer.Argument(metavar="CID[/PATH]", help="An object, or a file in it.")]) -> None:
    """Print a file of the store to stdout; its hash is checked first, or block by block where it is kept as blocks.

    Example: citrate cat bafybei.../config.json
    """
    cid, _, inside = target.partition("/")
    if context.wants_json():
        raise ConfigError("cat prints the file's bytes, which are no JSON document", hint=f"citrate store where {cid}")
    store = context.registry().store
    if store.has(cid):
        with _plain(store, cid, inside).open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
    else:
        for piece in store.cat(cid, inside):
            sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _plain(store: Store, cid: str, inside: str) -> Path:
    """The plain file at a path of an object."""
    path = store.get(cid)
    names = [file.path for file in store.artifact(cid).files]
    if path.is_dir():
        if inside not in names:
            listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise NotFoundError(f"{cid} has no file {inside!r}", hint=f"it has: {listed}")
        return path / inside
    if inside:
        raise NotFoundError(f"{cid} is a file and has nothing inside", hint=f"citrate cat {cid}")
    return path
