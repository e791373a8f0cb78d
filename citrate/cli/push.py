"""`citrate push`: copy a version to Kubo."""

from __future__ import annotations

from typing import Annotated

import typer

from citrate.cli import context, progress
from citrate.core.errors import ConfigError

app = context.new_app()


@app.command()
def push(
    ref: Annotated[str, typer.Argument(metavar="REF", help="The version; with #variant only that one.")],
    to: Annotated[str, typer.Option(metavar="STORE", help="kubo (the setting kubo_api), or its address.")],
) -> None:
    """Copy a version's blocks as they are to a Kubo node and pin them there; another CID there is an error.

    Example: citrate push me/tiny-llama --to kubo
    """
    registry = context.registry()
    api = registry.settings.kubo_api if to == "kubo" else to
    if not api:
        raise ConfigError("no Kubo is configured", hint="CITRATE_KUBO_API=/ip4/127.0.0.1/tcp/5001, or --to ADDRESS")
    with progress.bars() as on_progress:
        pushed = registry.push(ref, api, progress=on_progress)
    rows = [{"variant": name, "cid": cid, "status": "pinned"} for name, cid in pushed]
    context.emit({"ref": ref, "objects": rows}, lambda: context.table([(name, "pinned", cid) for name, cid in pushed]))
