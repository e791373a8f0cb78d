"""`citrate store`: what the embedded store holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from citrate.cli import context, progress
from citrate.cli.sizes import human_size
from citrate.core.errors import ConfigError

app = context.new_app(no_args_is_help=True)
Cid = Annotated[str, typer.Argument(metavar="CID", help="An object's CID.")]


@app.callback()
def store() -> None:
    """The embedded store: verified objects as plain files."""


@app.command("ls")
def ls() -> None:
    """List the objects.

    Example: citrate store ls --json
    """
    found = context.registry().store.ls()
    rows = [{"cid": o.cid, "sha256": o.sha256, "size_bytes": o.size_bytes, "pinned": o.pinned} for o in found]

    def human() -> None:
        lines = [(human_size(o.size_bytes), "pinned" if o.pinned else "", o.cid) for o in found]
        context.table(lines, ("SIZE", "", "CID"))

    context.emit({"objects": rows}, human)


@app.command()
def verify() -> None:
    """Read and hash every byte of every object. Exit 3 if one is damaged.

    Example: citrate store verify
    """
    with progress.bars() as on_progress:
        damages = context.registry().store.verify(on_progress)
    rows = [{"message": damage.message, **damage.details} for damage in damages]

    def human() -> None:
        for damage in damages:
            context.say(f"DAMAGED  {damage.message}")
        context.say("ok" if not damages else f"{len(damages)} damaged; citrate pull REF mends from another source")

    context.emit({"ok": not damages, "damaged": rows}, human)
    if damages:
        raise typer.Exit(3)


@app.command()
def where(cid: Cid) -> None:
    """Print the path of an object's plain files, verified.

    Example: citrate store where bafybei...
    """
    path = context.registry().store.get(cid)
    context.emit({"cid": cid, "path": str(path)}, lambda: context.say(str(path)))


@app.command()
def export(
    cid: Cid,
    out: Annotated[Path, typer.Option(help="The CAR file to write; - for stdout.")] = Path("-"),
) -> None:
    """Write an object as a CAR file, every block compared with its CID.

    Example: citrate store export bafybei... --out model.car
    """
    registry = context.registry()
    registry.store.artifact(cid)
    if out == Path("-"):
        if sys.stdout.isatty() or context.wants_json():
            raise ConfigError("a CAR is binary", hint="--out FILE")
        for piece in registry.store.export_car(cid):
            sys.stdout.buffer.write(piece)
        return
    if out.exists() and not out.is_file():  # a device or a pipe is written to, never replaced
        with out.open("wb") as file:
            size = sum(file.write(piece) for piece in registry.store.export_car(cid))
        context.emit({"cid": cid, "path": str(out), "size_bytes": size}, lambda: context.say(str(out)))
        return
    partial = out.with_name(f".{out.name}.partial")
    try:
        with partial.open("wb") as file:
            size = sum(file.write(piece) for piece in registry.store.export_car(cid))
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    context.emit({"cid": cid, "path": str(out), "size_bytes": size}, lambda: context.say(str(out)))


@app.command()
def pin(cid: Cid, reason: Annotated[str, typer.Option(help="Who needs it.")] = "by hand") -> None:
    """Keep an object, and serve it from this home's gateway.

    Example: citrate store pin bafybei... --reason demo
    """
    store = context.registry().store
    store.pin(cid, reason)
    _show_pins(cid, store.pins(cid))


@app.command()
def unpin(cid: Cid) -> None:
    """Drop every reason to keep an object; the next gc deletes it.

    Example: citrate store unpin bafybei...
    """
    store = context.registry().store
    store.artifact(cid)
    for reason in store.pins(cid):
        store.unpin(cid, reason)
    _show_pins(cid, [])


def _show_pins(cid: str, reasons: list[str]) -> None:
    def human() -> None:
        context.table([(reason, cid) for reason in reasons] or [("no pins", cid)])

    context.emit({"cid": cid, "pins": reasons}, human)


@app.command()
def gc(dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go.")] = False) -> None:
    """Delete what nothing pins, and what interrupted fetches left.

    Example: citrate store gc --dry-run
    """
    gone = context.registry().store.gc(dry_run=dry_run)
    rows = [{"cid": o.cid, "sha256": o.sha256, "size_bytes": o.size_bytes} for o in gone]

    def human() -> None:
        context.table([(human_size(o.size_bytes), o.cid) for o in gone])
        total = human_size(sum(o.size_bytes for o in gone))
        context.talk(f"{'would free' if dry_run else 'freed'} {total} in {len(gone)} objects")

    context.emit({"dry_run": dry_run, "objects": rows}, human)


@app.command()
def rm(cid: Cid) -> None:
    """Delete an object that is not pinned.

    Example: citrate store rm bafybei...
    """
    context.registry().store.remove(cid)
    context.emit({"cid": cid}, lambda: context.say(cid))
