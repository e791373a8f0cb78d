"""`citrate add`: content-address a file or folder into the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from citrate.cli import context, progress
from citrate.cli.sizes import counted, human_size
from citrate.core.errors import ConfigError
from citrate.core.records import PROFILE

if TYPE_CHECKING:
    from citrate.core.records import Artifact
    from citrate.core.sink import Progress

app = context.new_app()


@app.command()
def add(
    path: Annotated[Path, typer.Argument(help="A file or folder.")],
    only_hash: Annotated[bool, typer.Option("--only-hash", help="Hash; store nothing.")] = False,
    cid_only: Annotated[
        bool, typer.Option("--cid-only", help="Only the CID, without SHA-256: several times as fast; store nothing.")
    ] = False,
    profile: Annotated[
        str,
        typer.Option(
            help="unixfs-v1-2025; citrate-tensor-v1: cut at tensors; or unixfs-v0-2015: CIDs Qm..., kept as blocks."
        ),
    ] = PROFILE,
) -> None:
    """Put a file or folder into the store; the CID is Kubo's with the same profile.

    Example: citrate add ./model.gguf --only-hash
    """
    from citrate.registry.profiles import V0_2015, check
    from citrate.registry.unixfs import address

    check(profile)
    if cid_only:
        _tell_cid(path, profile)
        return
    with progress.bars() as on_progress:
        if profile == V0_2015:
            artifact = _add_v0(path, only_hash, on_progress)
        elif only_hash:
            artifact = address(path, progress=on_progress, profile=profile)
        else:
            store = context.registry().store
            artifact = store.add(path, progress=on_progress, profile=profile)
            store.pin(artifact.cid, "added")
    document: dict[str, object] = {
        "path": str(path),
        "cid": artifact.cid,
        "sha256": artifact.sha256,
        "size_bytes": artifact.size_bytes,
        "files": len(artifact.files),
    }

    def human() -> None:
        context.talk(
            f"{counted(len(artifact.files), 'file')}, {human_size(artifact.size_bytes)}, SHA-256 {artifact.sha256}"
        )
        context.say(artifact.cid)

    context.emit(document, human)


def _tell_cid(path: Path, profile: str) -> None:
    from citrate.registry.cid_alone import cid_of

    if profile != PROFILE:
        raise ConfigError(f"--cid-only knows the profile {PROFILE}", hint="--only-hash takes any profile")
    with progress.bars() as on_progress:
        named = cid_of(path, progress=on_progress)
    document = {"path": str(path), "cid": named.cid, "sha256": None, "size_bytes": named.size_bytes}

    def human() -> None:
        context.talk(f"{counted(named.files, 'file')}, {human_size(named.size_bytes)}")
        context.say(named.cid)

    context.emit({**document, "files": named.files}, human)


def _add_v0(path: Path, only_hash: bool, on_progress: Progress | None) -> Artifact:
    """Add a path in the profile of 2015; its blocks are kept, and no plain files."""
    from citrate.registry.cid import Cid
    from citrate.registry.profiles import V0Importer
    from citrate.registry.store.importing import keep

    if only_hash:
        return V0Importer().add(path, on_progress)
    store = context.registry().store
    with store.dag_writer() as writer:
        artifact = V0Importer(writer.put).add(path, on_progress)
        keep(store, writer, [Cid.parse(artifact.cid)], "added")
    return artifact
