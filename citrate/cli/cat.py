"""`citrate cat`: print a file of the store, verified."""

from __future__ import annotations

import shutil
import sys
from typing import Annotated

import typer

from citrate.cli import context
from citrate.core.errors import ConfigError, NotFoundError

app = context.new_app()


@app.command()
def cat(target: Annotated[str, typer.Argument(metavar="CID[/PATH]", help="An object, or a file in it.")]) -> None:
    """Print a file of the store to stdout; its hash is checked first.

    Example: citrate cat bafybei.../config.json
    """
    cid, _, inside = target.partition("/")
    store = context.registry().store
    path = store.get(cid)
    names = [file.path for file in store.artifact(cid).files]
    if path.is_dir():
        if inside not in names:
            listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise NotFoundError(f"{cid} has no file {inside!r}", hint=f"it has: {listed}")
        path = path / inside
    elif inside:
        raise NotFoundError(f"{cid} is a file and has nothing inside", hint=f"citrate cat {cid}")
    if context.wants_json():
        raise ConfigError("cat prints the file's bytes, which are no JSON document", hint=f"citrate store where {cid}")
    with path.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()
