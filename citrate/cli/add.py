"""`citrate add`: content-address a file or folder into the store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from citrate.cli import context, progress
from citrate.cli.sizes import human_size

app = context.new_app()


@app.command()
def add(
    path: Annotated[Path, typer.Argument(help="A file or folder.")],
    only_hash: Annotated[bool, typer.Option("--only-hash", help="Hash; store nothing.")] = False,
) -> None:
    """Put a file or folder into the store; the CID is Kubo's with the profile unixfs-v1-2025.

    Example: citrate add ./model.gguf --only-hash
    """
    from citrate.registry.unixfs import address

    with progress.bars() as on_progress:
        if only_hash:
            artifact = address(path, progress=on_progress)
        else:
            store = context.registry().store
            artifact = store.add(path, progress=on_progress)
            store.pin(artifact.cid, "added")
    document: dict[str, object] = {
        "path": str(path),
        "cid": artifact.cid,
        "sha256": artifact.sha256,
        "size_bytes": artifact.size_bytes,
        "files": len(artifact.files),
    }

    def human() -> None:
        context.talk(f"{len(artifact.files)} files, {human_size(artifact.size_bytes)}, SHA-256 {artifact.sha256}")
        context.say(artifact.cid)

    context.emit(document, human)
